package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// figures are what a process says of itself on /metrics: sums over labels by name, and
// its histograms.
type figures struct {
	sums       map[string]float64
	histograms map[string]histogram
}

// histogram counts observations by their upper bounds, cumulated, in ascending order.
type histogram []bucket

type bucket struct {
	most  float64
	count float64
}

// scrape reads the metrics of a process at host:port.
func scrape(ctx context.Context, addr string) (figures, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return figures{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return figures{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	if err != nil {
		return figures{}, fmt.Errorf("read the metrics at %s: %w", addr, err)
	}
	return parseFigures(string(text))
}

// parseFigures reads the text format of Prometheus as far as our own metrics use it: no
// label of ours holds a space or a bracket.
func parseFigures(text string) (figures, error) {
	f := figures{sums: map[string]float64{}, histograms: map[string]histogram{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		series, value, ok := strings.Cut(line, " ")
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return figures{}, fmt.Errorf("read metrics: no value in %q", line)
		}
		name, labels, _ := strings.Cut(series, "{")
		f.sums[name] += v
		base, isBucket := strings.CutSuffix(name, "_bucket")
		if !isBucket {
			continue
		}
		_, bound, _ := strings.Cut(labels, `le="`)
		bound, _, _ = strings.Cut(bound, `"`)
		most, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return figures{}, fmt.Errorf("read metrics: no bound in %q", line)
		}
		f.histograms[base] = f.histograms[base].plus(bucket{most, v})
	}
	return f, nil
}

func (h histogram) plus(b bucket) histogram {
	i, there := slices.BinarySearchFunc(h, b.most, func(a bucket, most float64) int {
		switch {
		case a.most < most:
			return -1
		case a.most > most:
			return 1
		}
		return 0
	})
	if there {
		h[i].count += b.count
		return h
	}
	return slices.Insert(h, i, b)
}

// since is what was observed after an earlier look.
func (h histogram) since(before histogram) histogram {
	out := slices.Clone(h)
	for i := range min(len(out), len(before)) {
		out[i].count -= before[i].count
	}
	return out
}

// quantile is the value that a share of the observations does not exceed, between two
// bounds in proportion, and the highest bound there is for those beyond.
func (h histogram) quantile(share float64) float64 {
	if len(h) == 0 || h[len(h)-1].count <= 0 {
		return math.NaN()
	}
	rank, last := share*h[len(h)-1].count, bucket{}
	for _, b := range h {
		if b.count >= rank {
			if math.IsInf(b.most, 1) || b.count <= last.count {
				return last.most
			}
			return last.most + (b.most-last.most)*(rank-last.count)/(b.count-last.count)
		}
		last = b
	}
	return last.most
}

// total is how many observations there are.
func (h histogram) total() float64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].count
}
