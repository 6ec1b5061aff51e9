// Package sinktest holds what every sink is tested with: [Run], the suite that each
// implementation of sinks.Sink passes; [Source], which makes real sealed records; and
// [Memory], a spiteful sink in memory that fails on misuse and fails on command.
//
// Only tests import it. It knows no Kafka and no database.
package sinktest
