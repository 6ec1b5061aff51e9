// Package schemas is the language that every stage speaks: the topics, the two
// event types with their Avro schemas, the JSON form, and the projection of an
// event's bytes into columns.
//
// It knows no Kafka client, no registry client and no database. Sources of truth
// in it, each in one place only:
//
//   - topics.go: every topic, its limits, and which role may do what with it;
//   - audit_event.avsc, domain_event.avsc: the events, named as ECS 9.4 names
//     them (github.com/elastic/ecs), with personal fields tagged
//     "confluent:tags": ["PII"]; *_gen.go are the Go types made from them;
//   - projection.go: which ECS path becomes which column;
//   - control.go: the product's own acts.
//
// # The two forms of an event
//
// A value that begins with the byte 0 is Avro behind a Confluent frame (0, then a
// four-byte big-endian schema id). A value that begins with '{', white space aside,
// is JSON in ECS form: objects nested as ECS nests them, or names with dots
// ("event.action"), or both. Anything else is evidence too, but no schema explains
// it. Both forms say the same thing: names are equal, a null or missing field is
// absent, except for what Avro's grammar forbids or has no word for:
//
//   - "@timestamp" is no legal Avro name. The Avro field is called timestamp and
//     carries the property "ecs": "@timestamp". A writer's schema may use the same
//     property on any field; a top-level field that is simply called timestamp is
//     taken as "@timestamp" too.
//   - A time is milliseconds since 1970 in Avro (timestamp-millis) and RFC 3339
//     text in JSON; JSON input may also give milliseconds as a number.
//   - A string field with the property "json": true (payload, audit.order,
//     audit.details) holds JSON text. In JSON an object or array stands there as
//     itself, byte for byte; any other text stands there as a string.
//
// Users: producers (encode, validate), the API and the sinks (decode, project),
// verify (projects again and compares), the seal's operator orders (control.go).
package schemas

//go:generate go -C ../tools tool avrogen -pkg schemas -o ../schemas/audit_event_gen.go ../schemas/audit_event.avsc
//go:generate go -C ../tools tool avrogen -pkg schemas -o ../schemas/domain_event_gen.go ../schemas/domain_event.avsc
