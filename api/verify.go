package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

const (
	maxVerifyBody  = 64 << 10
	maxVerifyNames = 100
	maxTopicName   = 249 // of Kafka
	defaultRate    = 50_000
	maxRate        = 1_000_000
	firstFindings  = 20
)

type verificationJSON struct {
	ID         string                     `json:"id"`
	State      sinks.VerificationState    `json:"state"`
	Result     string                     `json:"result,omitempty"`
	Cancelling bool                       `json:"cancelling,omitempty"`
	TakenUp    int                        `json:"taken_up"`
	Created    *string                    `json:"created"`
	Started    *string                    `json:"started"`
	Finished   *string                    `json:"finished"`
	Request    verifyRequestJSON          `json:"request"`
	Progress   sinks.VerificationProgress `json:"progress"`
	Error      string                     `json:"error,omitempty"`

	Report   json.RawMessage `json:"report,omitempty"`
	Findings []findingJSON   `json:"findings,omitempty"`
}

type verifyRequestJSON struct {
	Sources []string    `json:"sources"`
	Ledgers []ledger.ID `json:"ledgers"`
	From    *string     `json:"from"`
	To      *string     `json:"to"`
	Rows    bool        `json:"rows"`
	Rate    int         `json:"rate"`
}

type findingJSON struct {
	Verdict ledger.Verdict `json:"verdict"`
	Ledger  ledger.ID      `json:"ledger"`
	Seq     uint64         `json:"seq"`
	Where   string         `json:"where"`
	Detail  string         `json:"detail"`
}

// postVerification queues a job. That somebody asked is recorded first, so that no
// verification is without its author.
func (s *server) postVerification(c *gin.Context, p auth.Principal) *problem {
	if prob := s.mayVerify(p); prob != nil {
		return prob
	}
	req, prob := readVerification(c)
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	req, err := s.Verifications.Resolve(ctx, req)
	var refused *VerificationRefused
	if errors.As(err, &refused) {
		return badVerification(refused.Where, refused.Detail, refused.Fix)
	}
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("resolve verification: %w", err))
	}
	jobs, err := s.Verifications.List(ctx)
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("look for an active verification: %w", err))
	}
	for _, j := range jobs {
		if j.State == sinks.VerificationQueued || j.State == sinks.VerificationRunning {
			return verificationActive(j.ID)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return internal(fmt.Errorf("make a verification id: %w", err))
	}
	a := s.access(c, p, OpVerifyStart, nil)
	a.Query = askedVerification(id.String(), &req)
	if prob := s.record(c, a); prob != nil {
		return prob
	}
	job, err := s.Verifications.Create(ctx, id.String(), req)
	var active *sinks.VerificationActive
	if errors.As(err, &active) {
		return verificationActive(active.ID) // of two at the same moment; both are on record
	}
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("keep verification: %w", err))
	}
	c.Writer.Header().Set("Location", "/v1/verify/"+job.ID)
	return answerVerification(c, http.StatusAccepted, &job, nil)
}

func (s *server) listVerifications(c *gin.Context, p auth.Principal) *problem {
	if prob := s.mayVerify(p); prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	jobs, err := s.Verifications.List(ctx)
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("list verifications: %w", err))
	}
	page := struct {
		Items []verificationJSON `json:"items"`
	}{make([]verificationJSON, len(jobs))}
	for n := range jobs {
		page.Items[n] = showVerification(&jobs[n])
		page.Items[n].Report = nil // long; the job by itself has it
	}
	body, err := render(page)
	if err != nil {
		return internal(fmt.Errorf("render verifications: %w", err))
	}
	answerJSON(c, http.StatusOK, body)
	return nil
}

func (s *server) getVerification(c *gin.Context, p auth.Principal) *problem {
	id, prob := s.jobOf(c, p)
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	job, err := s.Verifications.Get(ctx, id)
	if err != nil {
		return jobProblem(ctx, fmt.Errorf("read verification: %w", err))
	}
	found, err := s.Verifications.Findings(ctx, id, 0, firstFindings)
	if err != nil {
		return jobProblem(ctx, fmt.Errorf("read findings: %w", err))
	}
	return answerVerification(c, http.StatusOK, &job, found)
}

// cancelVerification asks the job to end. Asking again, or for one that has ended,
// changes nothing.
func (s *server) cancelVerification(c *gin.Context, p auth.Principal) *problem {
	id, prob := s.jobOf(c, p)
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	if _, err := s.Verifications.Get(ctx, id); err != nil {
		return jobProblem(ctx, fmt.Errorf("read verification: %w", err))
	}
	a := s.access(c, p, OpVerifyCancel, nil)
	a.Query = map[string]string{"verification": id}
	if prob := s.record(c, a); prob != nil {
		return prob
	}
	job, err := s.Verifications.Cancel(ctx, id)
	if err != nil {
		return jobProblem(ctx, fmt.Errorf("cancel verification: %w", err))
	}
	return answerVerification(c, http.StatusOK, &job, nil)
}

// listFindings answers one page of findings: places and verdicts, never content, so it
// is no recorded read.
func (s *server) listFindings(c *gin.Context, p auth.Principal) *problem {
	id, prob := s.jobOf(c, p)
	if prob != nil {
		return prob
	}
	limit, after, prob := findingsPage(queryOf(c))
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	if _, err := s.Verifications.Get(ctx, id); err != nil {
		return jobProblem(ctx, fmt.Errorf("read verification: %w", err))
	}
	found, err := s.Verifications.Findings(ctx, id, after, limit+1)
	if err != nil {
		return jobProblem(ctx, fmt.Errorf("read findings: %w", err))
	}
	page := struct {
		Items []findingJSON `json:"items"`
		Next  string        `json:"next,omitempty"`
	}{}
	if len(found) > limit {
		found = found[:limit]
		page.Next = strconv.FormatInt(found[limit-1].N, 10)
	}
	page.Items = showFindings(found)
	body, err := render(page)
	if err != nil {
		return internal(fmt.Errorf("render findings: %w", err))
	}
	answerJSON(c, http.StatusOK, body)
	return nil
}

func findingsPage(q params) (limit int, after int64, prob *problem) {
	limit = defaultLimit
	var err error
	if v, ok := q["limit"]; ok {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxLimit {
			return 0, 0, badParameter("limit", fmt.Sprintf("the limit is not a whole number from 1 to %d", maxLimit), "ask for at most that many and follow next")
		}
	}
	if v, ok := q["cursor"]; ok {
		if after, err = strconv.ParseInt(v, 10, 64); err != nil || after < 1 {
			return 0, 0, badCursor("it was not made here")
		}
	}
	return limit, after, nil
}

// mayVerify keeps tokens of one tenant out. A job looks at the events of all tenants,
// and its findings are places in ledgers that tenants share.
func (s *server) mayVerify(p auth.Principal) *problem {
	if !p.Global() {
		return &problem{kind: kindTenant, where: "tenant of the token", detail: "ledgers hold the events of all tenants, so a verification is for tokens of all tenants",
			fix: `use a token whose tenant is "*"; GET /v1/events/{ledger}/{seq} gives what is needed to check one event of your own`}
	}
	if s.Verifications == nil {
		return &problem{kind: kindVerifyOff, where: "server", detail: "sink_postgres.jobs_url_file is not set, so there is no place to keep verifications",
			fix: "set it and run sealstream database migrate, or run sealstream verify"}
	}
	return nil
}

func (s *server) jobOf(c *gin.Context, p auth.Principal) (string, *problem) {
	if prob := s.mayVerify(p); prob != nil {
		return "", prob
	}
	id, err := uuid.Parse(c.Param("job"))
	if err != nil || id.String() != c.Param("job") {
		return "", &problem{kind: kindParameter, where: "path, part behind verify", detail: "this is not the id of a verification",
			fix: "take ids from GET /v1/verify"}
	}
	return id.String(), nil
}

func jobProblem(ctx context.Context, err error) *problem {
	if errors.Is(err, sinks.ErrNotFound) {
		return &problem{kind: kindNotFound, where: "path", detail: "there is no such verification",
			fix: "see GET /v1/verify; the newest hundred are kept"}
	}
	return storeProblem(ctx, err)
}

func verificationActive(id string) *problem {
	p := &problem{kind: kindVerifyActive, where: "server", retryAfter: 10 * time.Second, detail: "one verification runs at a time, and another one has just begun or ended",
		fix: "send the same request again after Retry-After seconds"}
	if id != "" {
		p.detail, p.allow = "one verification runs at a time, and "+id+" is not finished", "Location: /v1/verify/"+id
		p.fix = "wait for it, or cancel it: DELETE /v1/verify/" + id
	}
	return p
}

func badVerification(where, detail, fix string) *problem {
	return &problem{kind: kindVerify, where: where, detail: detail, fix: fix}
}

func answerVerification(c *gin.Context, status int, job *sinks.Verification, found []sinks.VerificationFinding) *problem {
	out := showVerification(job)
	if found != nil {
		out.Findings = showFindings(found)
	}
	body, err := render(out)
	if err != nil {
		return internal(fmt.Errorf("render verification: %w", err))
	}
	answerJSON(c, status, body)
	return nil
}

func showVerification(v *sinks.Verification) verificationJSON {
	r := &v.Request
	out := verificationJSON{
		ID: v.ID, State: v.State, Cancelling: v.Cancelling, TakenUp: v.TakenUp,
		Created: timeText(v.Created), Started: timeText(v.Started), Finished: timeText(v.Finished),
		Request:  verifyRequestJSON{Sources: r.Sources, Ledgers: r.Ledgers, From: timeText(r.From), To: timeText(r.To), Rows: r.Rows, Rate: r.Rate},
		Progress: v.Progress, Error: v.Error, Report: v.Report,
	}
	if out.Progress.Verdicts == nil {
		out.Progress.Verdicts = map[ledger.Verdict]uint64{}
	}
	var head struct{ Result string }
	if json.Unmarshal(v.Report, &head) == nil {
		out.Result = head.Result
	}
	return out
}

func showFindings(in []sinks.VerificationFinding) []findingJSON {
	out := make([]findingJSON, len(in))
	for n, f := range in {
		out[n] = findingJSON{f.Verdict, f.Ledger, f.Seq, f.Where, f.Detail}
	}
	return out
}

// askedVerification is what goes into the evidence about a job.
func askedVerification(id string, r *sinks.VerificationRequest) map[string]string {
	out := map[string]string{"verification": id, "rows": strconv.FormatBool(r.Rows), "rate": strconv.Itoa(r.Rate)}
	if len(r.Sources) > 0 {
		out["sources"] = strings.Join(r.Sources, " ")
	}
	if len(r.Ledgers) > 0 {
		ids := make([]string, len(r.Ledgers))
		for n, id := range r.Ledgers {
			ids[n] = id.String()
		}
		out["ledgers"] = strings.Join(ids, " ")
	}
	for name, t := range map[string]time.Time{"from": r.From, "to": r.To} {
		if !t.IsZero() {
			out[name] = t.Format(time.RFC3339Nano)
		}
	}
	return out
}

// readVerification reads the body of a request.
func readVerification(c *gin.Context) (sinks.VerificationRequest, *problem) {
	var none sinks.VerificationRequest
	if t, prob := bodyType(c.Request); prob != nil || t != typeJSON || c.Request.Header.Get("Content-Encoding") != "" {
		return none, &problem{kind: kindMediaType, where: "header Content-Type", detail: "the body's content type is missing, not one that is taken, or encoded",
			fix: "send application/json as it is", allow: "Accept-Post: application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxVerifyBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return none, &problem{kind: kindTooLarge, where: "body", detail: fmt.Sprintf("the body has more than %d bytes", maxVerifyBody), fix: "name fewer sources and ledgers; none means all"}
	}
	if err != nil {
		return none, badRequest("body", "the body could not be read to its end", "send the whole body again")
	}
	return parseVerification(body)
}

func badRequest(where, detail, fix string) *problem {
	return &problem{kind: kindRequest, where: where, detail: detail, fix: fix}
}

// members splits one JSON object. It is strict: a member that is misspelt or given twice
// must not turn into "everything".
func members(body []byte) (map[string]json.RawMessage, *problem) {
	dec := json.NewDecoder(bytes.NewReader(body))
	bad := badRequest("body", "the body is not one JSON object", `send an object; {} verifies everything`)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, bad
		}
		if _, twice := out[name]; twice {
			return nil, badRequest("body."+bounded(name, 64), "the member is given twice", "give it once")
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, bad
		}
		out[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, bad
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	return out, nil
}
