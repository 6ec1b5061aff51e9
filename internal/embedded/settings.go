package embedded

import "strconv"

// Settings of the broker that are not for anyone to change; see the rules in
// brokerSettings.
const (
	segmentBytes    = 8 << 20
	neverMillis     = 3_000_000_000_000 // 95 years
	messageMaxBytes = 1048588           // Kafka's own default: topics that need more say so
	neverMinutes    = 2147483647        // the greatest value kfake takes: 4,085 years
)

// brokerSettings are the broker's settings for one start.
//
// Segments are small because a restart reads one whole segment of every
// partition at once; the price is a file descriptor for each segment that was
// read, so that the start warns when their number comes near the limit. Retention is off here as well as on our topics: as soon as
// one topic has a retention of its own, kfake applies the broker's default to
// all that have none, and by time it deletes everything before one late event.
// The cleaner never runs: it rewrites a partition by removing its files first,
// so that a crash in the middle loses it whole; it forgets about open
// transactions; and it stalls all clients. A compacted topic just keeps its old
// values, which its readers pass over. What must be deleted is deleted by
// DeleteRecords requests.
// Group offsets never expire: a sink that was off for a month goes on where it
// stopped.
func brokerSettings(boot string) map[string]string {
	return map[string]string{
		BootConfig:                  boot,
		"log.segment.bytes":         strconv.Itoa(segmentBytes),
		"log.retention.ms":          "-1",
		"log.retention.bytes":       "-1",
		"log.cleaner.backoff.ms":    strconv.Itoa(neverMillis),
		"message.max.bytes":         strconv.Itoa(messageMaxBytes),
		"offsets.retention.minutes": strconv.Itoa(neverMinutes),
	}
}
