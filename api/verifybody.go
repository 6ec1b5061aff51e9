package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// parseVerification reads what is to be verified. What has the wrong type is malformed
// (400); what has the right type and cannot be is refused (422).
func parseVerification(body []byte) (sinks.VerificationRequest, *problem) {
	out := sinks.VerificationRequest{Sources: []string{}, Ledgers: []ledger.ID{}, Rows: true, Rate: defaultRate}
	in, prob := members(body)
	if prob != nil {
		return out, prob
	}
	var ledgers, times = []string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		var to any
		var want string
		switch name {
		case "sources":
			to, want = &out.Sources, "an array of source topics"
		case "ledgers":
			to, want = &ledgers, "an array of ledger ids"
		case "from", "to":
			to, want = new(string), "a time by RFC 3339, such as \"2026-01-31T08:00:00Z\""
		case "rows":
			to, want = &out.Rows, "true or false"
		case "rate":
			to, want = &out.Rate, "a whole number"
		default:
			return out, badRequest("body."+bounded(name, 64), "the body has no such member", "use sources, ledgers, from, to, rows, rate")
		}
		if err := json.Unmarshal(in[name], to); err != nil || string(in[name]) == "null" {
			return out, badRequest("body."+name, "the member is not "+want, "give "+want+", or leave it out")
		}
		if list, ok := to.(*[]string); ok && len(*list) == 0 {
			return out, badVerification("body."+name, "the list is empty, which is neither some nor all", "name some, or leave the member out to verify all")
		}
		if t, ok := to.(*string); ok {
			times[name] = *t
		}
	}
	return out, completeVerification(&out, ledgers, times)
}

func completeVerification(out *sinks.VerificationRequest, ledgers []string, times map[string]string) *problem {
	if len(out.Sources) > maxVerifyNames || len(ledgers) > maxVerifyNames {
		return badVerification("body", fmt.Sprintf("more than %d sources or ledgers are named", maxVerifyNames), "leave them out to verify all, or start several verifications")
	}
	for n, name := range out.Sources {
		if name == "" || len(name) > maxTopicName {
			return badVerification(fmt.Sprintf("body.sources[%d]", n), "this is no topic", "take source from /v1/ledgers")
		}
	}
	for n, text := range ledgers {
		id, err := ledger.ParseID(text)
		if err != nil {
			return badVerification(fmt.Sprintf("body.ledgers[%d]", n), "this is not a ledger id", "give 32 lower-case hexadecimal digits, or the same as a UUID")
		}
		out.Ledgers = append(out.Ledgers, id)
	}
	for name, text := range times {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return badVerification("body."+name, "this is not a time", "use RFC 3339, such as 2026-01-31T08:00:00Z")
		}
		if name == "from" {
			out.From = t.UTC()
		} else {
			out.To = t.UTC()
		}
	}
	if !out.From.IsZero() && !out.To.IsZero() && !out.From.Before(out.To) {
		return badVerification("body.to", "the range from..to is empty", "from is included, to is not: give a to that is later than from")
	}
	if !out.Rows && len(times) > 0 {
		return badVerification("body.rows", "from and to say which rows are compared, and rows is false", "leave from and to out, or set rows to true: chains are followed whole either way")
	}
	if out.Rate < 1 || out.Rate > maxRate {
		return badVerification("body.rate", fmt.Sprintf("the rate is not from 1 to %d records a second", maxRate), "leave it out for the default")
	}
	return nil
}
