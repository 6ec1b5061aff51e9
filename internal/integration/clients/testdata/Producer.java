// Sends one login as JSON: java -cp 'JARS/*' Producer.java BROKERS TOPIC [MORE.PROPERTIES]
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

import static java.nio.charset.StandardCharsets.UTF_8;

public class Producer {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("compression.type", "snappy");
        p.put("linger.ms", "5");
        p.put("delivery.timeout.ms", "120000");
        if (args.length > 2) p.load(Files.newBufferedReader(Path.of(args[2])));
        // No partitioner.class: the default takes murmur2 of the key, as ours does.
        AtomicReference<Exception> failed = new AtomicReference<>();
        String id = UUID.randomUUID().toString();
        try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            String event = "{\"@timestamp\":" + System.currentTimeMillis()
                + ",\"event\":{\"id\":\"" + id + "\",\"action\":\"user.login\",\"outcome\":\"success\"}"
                + ",\"user\":{\"name\":\"zo\\u00eb\"}}";
            // The key is tenant and pseudonym of the actor: no personal data.
            var record = new ProducerRecord<>(args[1], "acme/4bf1c2".getBytes(UTF_8), event.getBytes(UTF_8));
            record.headers()
                .add("ce_specversion", "1.0".getBytes(UTF_8))
                .add("ce_id", id.getBytes(UTF_8))
                .add("ce_source", "portal/login".getBytes(UTF_8))
                .add("ce_type", "user.login".getBytes(UTF_8))
                .add("ce_tenant", "acme".getBytes(UTF_8))
                .add("content-type", "application/json".getBytes(UTF_8));
            producer.send(record, (where, e) -> {
                if (e != null) failed.set(e); // not acknowledged: keep the event and send it again later
            });
            producer.flush();
        }
        if (failed.get() != null) throw new IllegalStateException("not acknowledged", failed.get());
        System.out.println(id);
    }
}
