package generate

import "time"

// SampleSize is the number of messages of [Sample].
const SampleSize = 60

const sampleSeed = 0x5ea1

// Sample returns a few events of both streams from the hour before end, so that a first
// start has something to show. key is as in [Options].
func Sample(end time.Time, key func(tenant, actor string) []byte) ([]Message, error) {
	g, err := New(Options{
		Seed: sampleSeed, Start: end.Add(-2 * time.Hour), Rate: SampleSize / 3600.0, NoNights: true,
		Tenants: 1, Actors: 16, DomainShare: 0.35, Key: key,
	})
	if err != nil {
		return nil, err
	}
	out := make([]Message, SampleSize)
	var m Message
	for i := range out {
		g.Next(&m)
		out[i] = m.Clone()
	}
	return out, nil
}
