// Package embedded is what one-machine mode runs instead of servers of its
// own: a Kafka broker, a schema registry and a PostgreSQL server, each kept in
// a directory, each surviving kill -9 and a restart with nothing acknowledged
// lost.
//
// The broker is franz-go's kfake with a data directory, fenced in by the rules
// that make it safe as the default of a single process: fixed settings that no
// persisted file and no client can change, a fetch hook, a frame guard in
// front of the listeners, a group fsync that acknowledgements can wait for, and
// a repair of what a crash leaves behind (package logrepair). The registry
// speaks Confluent's HTTP API. PostgreSQL is the real one: server binaries
// found on the machine, else those that Maven Central carries.
//
// It is not a way to run Sealstream on several machines, not for clients that
// are not trusted (every listener is on loopback and nothing authenticates),
// and not a library for other programs. Only cmd/sealstream and tests use it;
// every other part reaches these servers as it reaches real ones, by address.
package embedded
