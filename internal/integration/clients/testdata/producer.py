"""Sends one login as JSON and one as Avro.

python3 producer.py BROKERS REGISTRY TOPIC LOGIN.AVSC [MORE.PROPERTIES]
"""
import json
import sys
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic, schema = sys.argv[1:5]
more = {}
for path in sys.argv[5:]:
    more.update(line.strip().split("=", 1) for line in open(path) if "=" in line)
producer = Producer({
    "bootstrap.servers": brokers,
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java's; the default keeps order with nobody else
    "compression.type": "snappy",
    "linger.ms": 5,
    "delivery.timeout.ms": 120000,
    **more,
})
failed = []


def delivered(err, msg):
    if err is not None:  # not acknowledged: keep the event and send it again later
        failed.append(err)


def send(value, content_type, event_id):
    producer.produce(
        topic,
        key=b"acme/4bf1c2",  # tenant and pseudonym of the actor: no personal data
        value=value,
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", event_id.encode()),
            ("ce_source", b"portal/login"),
            ("ce_type", b"user.login"),
            ("ce_tenant", b"acme"),
            ("content-type", content_type),
        ],
        on_delivery=delivered,
    )
    producer.poll(0)  # runs delivered() for what has been answered


now = int(time.time() * 1000)
first, second = str(uuid.uuid4()), str(uuid.uuid4())
send(json.dumps({
    "@timestamp": now,
    "event": {"id": first, "action": "user.login", "outcome": "success"},
    "user": {"name": "zo\u00eb"},
}).encode(), b"application/json", first)

serializer = AvroSerializer(SchemaRegistryClient({"url": registry}), open(schema).read())
send(serializer(
    {"at": now, "event": {"id": second, "action": "user.login", "outcome": "failure"}, "user": {"name": "zo\u00eb"}},
    SerializationContext(topic, MessageField.VALUE),
), b"application/vnd.confluent.avro", second)

left = producer.flush(130)  # longer than delivery.timeout.ms, so that nothing is left
if failed or left:
    sys.exit(f"{len(failed) + left} events were not acknowledged: {failed[:1]}")
print(first, second)
