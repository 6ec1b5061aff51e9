// What tests ask of Apache Kafka's own client and of Apache Avro.
//
//   Foreign.java odd CLIENT BROKERS REGISTRY TOPIC AUDIT_EVENT.AVSC LIMIT
//   Foreign.java partition BROKERS TOPIC KEYS
//
// Each prints one JSON document a line: what it sent, and where it was acknowledged.
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

import static java.nio.charset.StandardCharsets.UTF_8;

public class Foreign {
    static final ObjectMapper json = new ObjectMapper();
    static final long AT = 1700000000123L;

    /** Sends and prints what was acknowledged where; a refusal ends the program. */
    static class Sender implements AutoCloseable {
        final KafkaProducer<byte[], byte[]> p;
        final List<Exception> failed = new ArrayList<>();

        Sender(String brokers, String... conf) {
            Properties c = new Properties();
            c.put("bootstrap.servers", brokers);
            c.put("max.request.size", "2000000");
            for (int i = 0; i < conf.length; i += 2) c.put(conf[i], conf[i + 1]);
            p = new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer());
        }

        void send(String name, String topic, Long at, byte[] key, byte[] value, List<Header> headers, Map<String, Object> columns, boolean aborted) {
            p.send(new ProducerRecord<>(topic, null, at, key, value, headers), (m, e) -> {
                synchronized (failed) {
                    if (e != null) {
                        failed.add(e);
                        return;
                    }
                    Map<String, Object> doc = new HashMap<>();
                    List<String[]> hs = new ArrayList<>();
                    for (Header h : headers) hs.add(new String[] {h.key(), b64(h.value())});
                    doc.put("case", name);
                    doc.put("partition", m.partition());
                    doc.put("offset", m.offset());
                    doc.put("ts", m.timestamp());
                    doc.put("key", b64(key));
                    doc.put("value", b64(value));
                    doc.put("headers", hs);
                    doc.put("columns", columns);
                    doc.put("aborted", aborted);
                    print(doc);
                }
            });
        }

        void flush() {
            p.flush();
            synchronized (failed) {
                if (!failed.isEmpty()) throw new IllegalStateException("not acknowledged", failed.get(0));
            }
        }

        public void close() {
            flush();
            p.close();
        }
    }

    static void print(Object doc) {
        try {
            System.out.println(json.writeValueAsString(doc));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    static String b64(byte[] b) {
        return b == null ? null : Base64.getEncoder().encodeToString(b);
    }

    static Header h(String name, String value) {
        return new RecordHeader(name, value == null ? null : value.getBytes(UTF_8));
    }

    static byte[] utf8(String s) {
        return s.getBytes(UTF_8);
    }

    static final List<Header> NONE = List.of();

    static byte[] event(String client, String name) throws Exception {
        return json.writeValueAsBytes(Map.of("@timestamp", AT, "event", Map.of("id", client + "-" + name, "action", name, "outcome", "failure"),
            "user.name", "zo\u00eb \uD83D\uDD12", "source", Map.of("ip", "192.0.2.7")));
    }

    static Map<String, Object> columns(String client, String name) {
        return Map.of("event_id", client + "-" + name, "event_action", name, "event_outcome", "failure", "user_name", "zo\u00eb \uD83D\uDD12", "source_ip", "192.0.2.7", "event_time", AT);
    }

    /** Registers a schema over HTTP under topic and record name, and frames one event as Confluent's serializer does. */
    static byte[] avro(String client, String registry, String topic, String file) throws Exception {
        String text = Files.readString(Path.of(file));
        HttpResponse<String> r = HttpClient.newHttpClient().send(
            HttpRequest.newBuilder(URI.create(registry + "/subjects/" + topic + "-audit.v1.AuditEvent/versions"))
                .header("Content-Type", "application/vnd.schemaregistry.v1+json")
                .POST(HttpRequest.BodyPublishers.ofString(json.writeValueAsString(Map.of("schema", text)))).build(),
            HttpResponse.BodyHandlers.ofString());
        if (r.statusCode() != 200) throw new IllegalStateException("register: status " + r.statusCode() + ": " + r.body());
        int id = json.readTree(r.body()).get("id").asInt();
        Schema schema = new Schema.Parser().parse(text);
        GenericRecord event = new GenericData.Record(schema.getField("event").schema());
        event.put("id", client + "-avro");
        event.put("action", "avro");
        event.put("category", List.of("authentication", "iam"));
        GenericRecord user = new GenericData.Record(schema.getField("user").schema().getTypes().get(1));
        user.put("name", "zo\u00eb");
        GenericRecord doc = new GenericData.Record(schema);
        doc.put("timestamp", AT);
        doc.put("event", event);
        doc.put("user", user);
        doc.put("labels", Map.of("a", "b"));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(0);
        out.write(ByteBuffer.allocate(4).putInt(id).array());
        var encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<GenericRecord>(schema).write(doc, encoder);
        encoder.flush();
        return out.toByteArray();
    }

    static void odd(String client, String brokers, String registry, String topic, String schema, int limit) throws Exception {
        try (Sender s = new Sender(brokers)) {
            s.send("json", topic, null, utf8("k1"), event(client, "json"), List.of(h("ce_id", "1"), h("ce_type", "json"), h("ce_tenant", "acme")), columns(client, "json"), false);
            s.send("avro", topic, null, utf8("k1"), avro(client, registry, topic, schema), List.of(h("ce_id", "2")),
                Map.of("event_id", client + "-avro", "event_action", "avro", "user_name", "zo\u00eb", "event_time", AT), false);
            s.send("headers", topic, null, utf8("cl\u00e9"), event(client, "headers"), List.of(h("h", null), h("h", ""), new RecordHeader("h", new byte[] {-1, 0}),
                h("\u00fc", "x"), h("h", "again"), h("", "no name"), h("seal", "not ours")), columns(client, "headers"), false);
            s.send("null key", topic, null, null, event(client, "null key"), NONE, columns(client, "null key"), false);
            s.send("null value", topic, null, utf8("k"), null, NONE, Map.of(), false);
            s.send("empty value", topic, null, utf8("k"), new byte[0], NONE, Map.of(), false);
            s.send("empty key", topic, null, new byte[0], utf8("{}"), NONE, Map.of(), false);
            s.send("nothing", topic, null, null, null, NONE, Map.of(), false);
            s.send("epoch", topic, 0L, utf8("k"), utf8("{}"), NONE, Map.of(), false);
            s.send("old", topic, 1L, utf8("k"), utf8("{}"), NONE, Map.of(), false);
        }
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            try (Sender s = new Sender(brokers, "compression.type", codec, "linger.ms", "200")) {
                for (int n = 0; n < 40; n++) s.send(codec, topic, null, utf8("k" + n % 7), event(client, codec + "-" + n), List.of(h("ce_id", "" + n)), columns(client, codec + "-" + n), false);
            }
        }
        try (Sender s = new Sender(brokers, "acks", "1", "enable.idempotence", "false")) {
            for (int n = 0; n < 20; n++) s.send("acks=1", topic, null, utf8("one"), utf8("{\"event.id\":\"" + client + "-one-" + n + "\"}"), NONE, Map.of("event_id", client + "-one-" + n), false);
        }
        try (Sender s = new Sender(brokers, "compression.type", "zstd", "linger.ms", "500", "batch.size", "900000")) {
            for (int n = 0; n < 4000; n++) s.send("huge batch", topic, null, utf8("batch"), utf8("{\"event\":{\"id\":\"" + client + "-batch-" + n + "\",\"reason\":\"" + "x".repeat(100) + "\"}}"), NONE, Map.of("event_id", client + "-batch-" + n), false);
        }
        byte[] large = new byte[limit - 72];
        new Random(1).nextBytes(large);
        try (Sender s = new Sender(brokers)) {
            s.send("at the limit", topic, null, null, large, NONE, Map.of(), false);
            s.flush();
            try {
                s.p.send(new ProducerRecord<>(topic, null, new byte[limit - 71])).get();
                throw new IllegalStateException("the broker took more than its limit: the case at the limit is none");
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof RecordTooLargeException)) throw e;
            }
        }
        try (Sender s = new Sender(brokers, "transactional.id", topic + "-" + client)) {
            s.p.initTransactions();
            for (int round = 0; round < 3; round++) {
                boolean abort = round == 1;
                s.p.beginTransaction();
                for (int n = 0; n < 5; n++) s.send("transaction", topic, null, utf8("tx"), event(client, "tx-" + round + "-" + n), NONE, columns(client, "tx-" + round + "-" + n), abort);
                s.flush();
                if (abort) s.p.abortTransaction();
                else s.p.commitTransaction();
            }
        }
    }

    static void partition(String brokers, String topic, String keys) throws Exception {
        String[] wanted = json.readValue(Files.readString(Path.of(keys)), String[].class);
        int[] at = new int[wanted.length];
        Properties c = new Properties();
        c.put("bootstrap.servers", brokers);
        c.put("linger.ms", "20");
        try (var p = new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < wanted.length; i++) {
                int n = i;
                byte[] key = wanted[i] == null ? null : Base64.getDecoder().decode(wanted[i]);
                p.send(new ProducerRecord<>(topic, key, utf8("{}")), (m, e) -> at[n] = e == null ? m.partition() : -1);
            }
        }
        if (Arrays.stream(at).anyMatch(n -> n < 0)) throw new IllegalStateException("not everything was acknowledged");
        print(at);
    }

    public static void main(String[] a) throws Exception {
        switch (a[0]) {
            case "odd" -> odd(a[1], a[2], a[3], a[4], a[5], Integer.parseInt(a[6]));
            case "partition" -> partition(a[1], a[2], a[3]);
            default -> throw new IllegalArgumentException(a[0]);
        }
    }
}
