// Package deploy holds tests in which the roles run as separate processes against a real
// Kafka that lets each of them do what `sealstream topics --acls` prints and nothing
// more, and in which credentials are changed and refused while they run. It is no part
// of the product and has no code of its own; `make integration` runs it.
package deploy
