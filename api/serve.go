package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// ServeOptions says where and how a handler listens. Zero durations take the
// default named.
type ServeOptions struct {
	Addr    string // host:port; port 0 takes a free one
	Handler http.Handler

	// CertFile and KeyFile (PEM) turn TLS 1.3 on; both or none. They are read again
	// when they change, so a renewed certificate needs no restart. Without them only a
	// loopback address is served.
	CertFile, KeyFile string

	// Listening, when set, is called once with the address that was bound.
	Listening func(net.Addr)

	ReadTimeout  time.Duration // of a whole request, body included; default 60 s
	WriteTimeout time.Duration // from the end of the header to the end of the answer; default 120 s
	IdleTimeout  time.Duration // of a connection between requests; default 120 s
	Drain        time.Duration // for requests in work once ctx has ended; default 10 s

	Log *slog.Logger // required
}

const (
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 32 << 10
)

// Serve answers requests until ctx ends, then lets the running ones end within
// Drain. It returns nil after a clean drain. Errors before the first request (address
// in use, unsafe address, bad certificate) say what to change.
func Serve(ctx context.Context, o ServeOptions) error {
	if o.Handler == nil || o.Log == nil {
		return errors.New("api: serve: Handler and Log are required")
	}
	orDefault(&o.ReadTimeout, 60*time.Second)
	orDefault(&o.WriteTimeout, 120*time.Second)
	orDefault(&o.IdleTimeout, 120*time.Second)
	orDefault(&o.Drain, 10*time.Second)
	secure, err := o.tlsConfig()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; free the port or set another address", o.Addr, err)
	}
	// What was bound decides, not what was asked for: a name may resolve to anything.
	if secure == nil && !loopbackListener(ln) {
		_ = ln.Close() // nothing was accepted from it
		return fmt.Errorf("listen on %s: without TLS only a loopback address is served; set a certificate and key file, or listen on 127.0.0.1", o.Addr)
	}
	srv := &http.Server{
		Handler: o.Handler, TLSConfig: secure,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, IdleTimeout: o.IdleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // handshake noise of strangers
		BaseContext:    func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if o.Listening != nil {
		o.Listening(ln.Addr())
	}
	return o.run(ctx, srv, ln)
}

func (o ServeOptions) run(ctx context.Context, srv *http.Server, ln net.Listener) error {
	ended := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			ended <- srv.ServeTLS(ln, "", "")
			return
		}
		ended <- srv.Serve(ln)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Drain)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		// Requests cut here were not answered: their senders know that they must ask again.
		err = errors.Join(fmt.Errorf("drain %s: requests still running after %s: %w", ln.Addr(), o.Drain, err), srv.Close())
	}
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve on %s: %w", ln.Addr(), e))
	}
	return err
}

func loopbackListener(ln net.Listener) bool {
	a, ok := ln.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// tlsConfig leaves the key exchanges to the Go release, whose defaults are hybrid
// post-quantum: CurvePreferences is not set on purpose.
func (o ServeOptions) tlsConfig() (*tls.Config, error) {
	if o.CertFile == "" && o.KeyFile == "" {
		return nil, nil // no TLS
	}
	if o.CertFile == "" || o.KeyFile == "" {
		return nil, errors.New("tls: certificate file and key file must be set together")
	}
	p := &pair{certFile: o.CertFile, keyFile: o.KeyFile, log: o.Log}
	if err := p.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: p.get}, nil
}

// pair is a certificate that follows its files.
type pair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	cert    *tls.Certificate
	changed [2]time.Time // of the files when they were last tried
}

func (p *pair) load() error {
	p.changed = p.modified() // also when they turn out to be bad: they are tried once per change
	st, err := os.Stat(p.keyFile)
	if err != nil {
		return fmt.Errorf("tls key file: %w", err)
	}
	if m := st.Mode().Perm(); m&0o007 != 0 {
		return fmt.Errorf("tls key file %s has mode %#o, so everybody can use it: chmod 600 it", p.keyFile, m)
	}
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("tls certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	p.cert = &cert
	return nil
}

// modified is zero for a file that is not there, which a renewal passes through.
func (p *pair) modified() (t [2]time.Time) {
	for n, f := range []string{p.certFile, p.keyFile} {
		if st, err := os.Stat(f); err == nil {
			t[n] = st.ModTime()
		}
	}
	return t
}

// get looks at the files on each handshake, which costs two stat calls. It keeps
// the old certificate when the new one cannot be used (yet): of a renewal it may see
// one file new and the other old.
func (p *pair) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.modified() == p.changed {
		return p.cert, nil
	}
	if err := p.load(); err != nil {
		p.log.ErrorContext(h.Context(), "renewed certificate cannot be used, the old one stays", "err", err)
	} else {
		p.log.InfoContext(h.Context(), "certificate renewed")
	}
	return p.cert, nil
}
