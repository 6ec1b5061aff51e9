"""What tests ask of librdkafka, fastavro and Confluent's Avro serializers.

foreign.py odd CLIENT BROKERS REGISTRY TOPIC LOGIN.AVSC LIMIT
foreign.py partition BROKERS TOPIC KEYS PARTITIONER
foreign.py read BROKERS REGISTRY TOPIC COUNT
foreign.py avro BROKERS REGISTRY TOPIC SUBJECT VALUE...
foreign.py ship BROKERS CONFIG.JSON TOPIC KEY VALUE...

Each prints one JSON document a line: what it sent, and where it was acknowledged.
"""
import base64
import datetime
import io
import json
import os
import sys
import urllib.request

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

WAIT = 60


def b64(b):
    return None if b is None else base64.b64encode(b).decode()


def emit(**doc):
    print(json.dumps(doc), flush=True)


def check(ok, why):
    if not ok:
        sys.exit(why)


class Sender:
    """Sends and prints what was acknowledged where; a refusal ends the program."""

    def __init__(self, brokers, **conf):
        self.p = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "message.max.bytes": 2000000} | conf)

    def send(self, case, topic, key=None, value=None, headers=None, timestamp=0, columns=None, aborted=False):
        def done(err, msg):
            check(err is None, f"{case}: {err}")
            emit(case=case, partition=msg.partition(), offset=msg.offset(), ts=msg.timestamp()[1], key=b64(key), value=b64(value),
                 headers=[[n, b64(v)] for n, v in headers or []], columns=columns or {}, aborted=aborted)
        while True:
            try:
                self.p.produce(topic, key=key, value=value, headers=headers, timestamp=timestamp, on_delivery=done)
                self.p.poll(0)
                return
            except BufferError:
                self.p.poll(0.1)

    def flush(self):
        check(self.p.flush(WAIT) == 0, "not everything was acknowledged")


AT = 1700000000123


def event(case, client):
    """An event in JSON, and the columns that it means."""
    eid = f"{client}-{case}"
    doc = {"@timestamp": AT, "event": {"id": eid, "action": case, "outcome": "failure"}, "user": {"name": "zo\u00eb \U0001f512"}, "source.ip": "192.0.2.7"}
    columns = {"event_id": eid, "event_action": case, "event_outcome": "failure", "user_name": "zo\u00eb \U0001f512", "source_ip": "192.0.2.7", "event_time": AT}
    return json.dumps(doc, ensure_ascii=False).encode(), columns


def odd(client, brokers, registry, topic, schema, limit):
    s = Sender(brokers, acks="all", **{"enable.idempotence": True})
    value, columns = event("json", client)
    s.send("json", topic, b"k1", value, [("ce_id", b"1"), ("ce_type", b"json"), ("ce_tenant", b"acme")], columns=columns)
    # The topic takes events of other types too.
    serialize = AvroSerializer(SchemaRegistryClient({"url": registry}), open(schema).read(),
                               conf={"subject.name.strategy": topic_record_subject_name_strategy})
    eid = client + "-avro"
    value = serialize({"at": AT, "event": {"id": eid, "action": "avro", "outcome": "success"}, "user": {"name": "zo\u00eb"}},
                      SerializationContext(topic, MessageField.VALUE))
    s.send("avro", topic, b"k1", value, [("ce_id", b"2")],
           columns={"event_id": eid, "event_action": "avro", "event_outcome": "success", "user_name": "zo\u00eb", "event_time": AT})
    value, columns = event("headers", client)
    s.send("headers", topic, "cl\u00e9".encode(), value,
           [("h", None), ("h", b""), ("h", b"\xff\x00"), ("\u00fc", b"x"), ("h", b"again"), ("seal", b"not ours")], columns=columns)
    s.send("null key", topic, None, value)
    s.send("null value", topic, b"k", None)
    s.send("empty value", topic, b"k", b"")
    s.send("empty key", topic, b"", b"{}")
    s.send("nothing", topic, None, None)
    s.send("bytes", topic, bytes(range(256)), bytes(range(255, -1, -1)))
    s.send("unknown id", topic, b"k", b"\x00\x7f\xff\xff\xff\x02x")
    s.send("id beyond", topic, b"k", b"\x00\xff\xff\xff\xff\x02x")
    s.send("old", topic, b"k", b"{}", timestamp=1)
    s.send("years ago", topic, b"k", b"{}", timestamp=1136214245999)
    s.send("years ahead", topic, b"k", b"{}", timestamp=3786912000001)
    s.flush()
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        s = Sender(brokers, **{"compression.type": codec, "linger.ms": 200})
        for n in range(40):
            value, columns = event(f"{codec}-{n}", client)
            s.send(codec, topic, f"k{n % 7}".encode(), value, [("ce_id", str(n).encode())], columns=columns)
        s.flush()
    s = Sender(brokers, **{"acks": 1, "enable.idempotence": False})
    for n in range(20):
        s.send("acks=1", topic, b"one", f'{{"event.id":"{client}-one-{n}"}}'.encode(), columns={"event_id": f"{client}-one-{n}"})
    s.flush()
    s = Sender(brokers, **{"compression.type": "zstd", "linger.ms": 500, "batch.size": 1000000, "batch.num.messages": 10000})
    for n in range(4000):
        s.send("huge batch", topic, b"batch", f'{{"event":{{"id":"{client}-batch-{n}","reason":"{"x" * 100}"}}}}'.encode(), columns={"event_id": f"{client}-batch-{n}"})
    s.flush()
    s = Sender(brokers, **{"linger.ms": 0})
    s.send("at the limit", topic, None, os.urandom(int(limit) - 72))
    s.flush()
    s = Sender(brokers, **{"transactional.id": f"{topic}-{client}"})
    s.p.init_transactions(WAIT)
    for round, abort in enumerate((False, True, False)):
        s.p.begin_transaction()
        for n in range(5):
            value, columns = event(f"tx-{round}-{n}", client)
            s.send("transaction", topic, b"tx", value, columns=columns, aborted=abort)
        s.flush()
        (s.p.abort_transaction if abort else s.p.commit_transaction)(WAIT)


def partition(brokers, topic, keys, partitioner):
    conf = {"bootstrap.servers": brokers, "linger.ms": 20}
    if partitioner != "default":
        conf["partitioner"] = partitioner
    p, at = Producer(conf), {}
    for i, key in enumerate(json.load(open(keys))):
        def done(err, msg, i=i):
            check(err is None, str(err))
            at[i] = msg.partition()
        p.produce(topic, key=None if key is None else base64.b64decode(key), value=b"{}", on_delivery=done)
        p.poll(0)
    check(p.flush(WAIT) == 0, "not everything was acknowledged")
    print(json.dumps([at[i] for i in range(len(at))]))


def plain(v):
    if isinstance(v, datetime.datetime):
        return (v - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    if isinstance(v, list):
        return [plain(x) for x in v]
    return v


def read(brokers, registry, topic, count):
    deserialize, schemas = AvroDeserializer(SchemaRegistryClient({"url": registry})), {}
    c = Consumer({"bootstrap.servers": brokers, "group.id": "unused", "enable.auto.commit": False, "isolation.level": "read_committed"})
    parts = c.list_topics(topic, timeout=WAIT).topics[topic].partitions
    c.assign([TopicPartition(topic, n, 0) for n in parts])
    for _ in range(int(count)):
        msg = c.poll(WAIT)
        check(msg is not None and msg.error() is None, f"poll: {msg and msg.error()}")
        value = msg.value()
        confluent = deserialize(value, SerializationContext(topic, MessageField.VALUE))
        sid = int.from_bytes(value[1:5], "big")
        if sid not in schemas:
            with urllib.request.urlopen(f"{registry}/schemas/ids/{sid}", timeout=WAIT) as r:
                schemas[sid] = fastavro.parse_schema(json.loads(json.load(r)["schema"]))
        body = io.BytesIO(value[5:])
        fast = fastavro.schemaless_reader(body, schemas[sid])
        check(value[0] == 0 and body.read() == b"", "bytes are left behind the event")
        check(fast == confluent, "fastavro and Confluent's deserializer read different events")
        emit(partition=msg.partition(), offset=msg.offset(), event=plain(fast))
    c.close()


def avro(brokers, registry, topic, subject, *values):
    # The schema is the subject's latest, with what it refers to.
    serialize = AvroSerializer(SchemaRegistryClient({"url": registry}), conf={
        "auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": lambda ctx, name: subject})
    s = Sender(brokers)
    for v in values:
        s.send("avro", topic, b"k", serialize(json.loads(v), SerializationContext(topic, MessageField.VALUE)))
    s.flush()


def ship(brokers, config, topic, key, *values):
    s = Sender(brokers, **json.load(open(config)))
    for v in values:
        s.send("ship", topic, key.encode(), v.encode(),
               [("ce_specversion", b"1.0"), ("ce_tenant", b"acme"), ("content-type", b"application/json")])
    s.flush()


{"odd": odd, "partition": partition, "read": read, "avro": avro, "ship": ship}[sys.argv[1]](*sys.argv[2:])
