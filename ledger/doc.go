// Package ledger is the tamper-evident format: statements, the chain that makes them,
// and the verifier that judges them. It is pure: no clock, no network, no Kafka.
package ledger
