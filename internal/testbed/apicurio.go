package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// apicurioArtifact is the whole server with its libraries.
const apicurioArtifact = "io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"

// apicurioReady bounds its start: ten seconds on an idle machine.
const apicurioReady = 120 * time.Second

// Apicurio is a schema registry that others wrote. It speaks Confluent's API and keeps
// its schemas in memory: [Apicurio.Suspend] is an outage that loses none, [Apicurio.Stop]
// loses all.
type Apicurio struct {
	URL string // of Confluent's API

	bed  *Bed
	java string
	dir  string
	port int
	mgmt int
	proc *Proc
}

// Apicurio starts the registry on free ports, with compatibility BACKWARD as Confluent's
// registry has it, and waits until it answers.
func (b *Bed) Apicurio(ctx context.Context) (*Apicurio, error) {
	jdk, err := FindJava(ctx)
	if err != nil {
		return nil, fmt.Errorf("start Apicurio: %w", err)
	}
	dir, err := FetchArtifact(ctx, "", apicurioArtifact)
	if err != nil {
		return nil, fmt.Errorf("start Apicurio: %w", err)
	}
	ports, err := b.FreePorts(2)
	if err != nil {
		return nil, fmt.Errorf("start Apicurio: %w", err)
	}
	a := &Apicurio{bed: b, java: jdk.Java, dir: dir, port: ports[0], mgmt: ports[1], URL: fmt.Sprintf("http://127.0.0.1:%d/apis/ccompat/v7", ports[0])}
	return a, a.Start(ctx)
}

// Start starts the registry, empty, at its old address, and waits until it answers.
func (a *Apicurio) Start(ctx context.Context) error {
	if a.proc != nil && !a.proc.Ended() {
		return errors.New("start Apicurio: it runs")
	}
	p, err := a.bed.Start("apicurio", a.java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dquarkus.http.host=127.0.0.1", fmt.Sprintf("-Dquarkus.http.port=%d", a.port),
		"-Dquarkus.management.host=127.0.0.1", fmt.Sprintf("-Dquarkus.management.port=%d", a.mgmt),
		"-jar", filepath.Join(a.dir, "apicurio-registry-app-3.0.9-runner.jar"))
	if err != nil {
		return err
	}
	a.proc = p
	ctx, cancel := context.WithTimeout(ctx, apicurioReady)
	defer cancel()
	var last error
	err = Until(ctx, func() (bool, error) {
		if p.Ended() {
			return false, fmt.Errorf("it ended with exit code %d", p.Exit())
		}
		last = a.backward(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for Apicurio to be ready: %w (last: %w); its log ends with:\n%s", err, last, p.Tail())
	}
	return nil
}

// backward sets the compatibility that new versions of a schema must have; Apicurio's
// own default is none.
func (a *Apicurio) backward(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, a.URL+"/config", strings.NewReader(`{"compatibility":"BACKWARD"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT /config: status %d", resp.StatusCode)
	}
	return nil
}

// Stop ends the registry with SIGKILL: connections to it are refused from then on.
func (a *Apicurio) Stop() error { return a.proc.Kill() }

// Suspend freezes the registry: it takes connections and answers nothing.
func (a *Apicurio) Suspend() error { return a.proc.Stop() }

// Resume wakes it up.
func (a *Apicurio) Resume() error { return a.proc.Continue() }

// Proc is its process; another one after each start.
func (a *Apicurio) Proc() *Proc { return a.proc }
