// Package clients holds tests in which programs that others wrote meet Sealstream on a
// real Kafka: librdkafka by its Python binding, Apache Kafka's Java client, Apache Avro,
// fastavro, Confluent's Avro serializers and the registry Apicurio. Their sources are in
// testdata. It is no part of the product and has no code of its own; `make integration`
// runs it, and docs/upstream.md quotes the two programs that show what to set.
package clients
