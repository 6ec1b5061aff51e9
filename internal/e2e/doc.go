// Package e2e tries the built binary as its users do, from outside: a real `up`, any
// Kafka client's records, the HTTP API, psql's hands in the table, the operator's
// commands. It has only tests; what single parts do is tested where they are.
package e2e
