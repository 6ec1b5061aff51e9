package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// maxConfigBytes bounds the file: a wrong path must not be read into memory.
const maxConfigBytes = 1 << 20

// envPrefix begins the names of environment variables that give *_file keys.
const envPrefix = "SEALSTREAM_"

// loadConfig reads a file (none when path is empty) and the environment.
func loadConfig(path string, getenv func(string) string) (*Config, error) {
	cfg := defaultConfig()
	if path != "" {
		text, err := readConfig(path)
		if err != nil {
			return nil, err
		}
		if err := parseConfig(text, &cfg); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
		cfg.resolve(filepath.Dir(path))
	}
	if err := cfg.fromEnv(getenv); err != nil {
		return nil, err
	}
	if problems := cfg.check(); len(problems) > 0 {
		return nil, fmt.Errorf("configuration %s:\n  %s", orNone(path), strings.Join(problems, "\n  "))
	}
	return &cfg, nil
}

func orNone(path string) string {
	if path == "" {
		return "(no file)"
	}
	return path
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("configuration %s does not exist: sealstream config --defaults prints one to begin with", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("configuration %s is larger than %d bytes: is the path right?", path, maxConfigBytes)
	}
	return text, nil
}

// parseConfig lays a file over cfg. It refuses unknown and repeated keys, a second
// document and a missing version.
func parseConfig(text []byte, cfg *Config) error {
	var head struct {
		Version *int `yaml:"version"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return yamlError(err)
	}
	switch {
	case head.Version == nil:
		return fmt.Errorf("key version is missing: write version: %d as the first line", configVersion)
	case *head.Version != configVersion:
		return fmt.Errorf("version is %d: this program reads version %d", *head.Version, configVersion)
	}
	if err := checkDurations(text, cfg); err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := dec.Decode(cfg); err != nil {
		return yamlError(err)
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("there is a second document: put everything into one")
	}
	return nil
}

// UnmarshalYAML lays an entry over the defaults: what it gives, 0 too, is what it means.
func (s *SourceConfig) UnmarshalYAML(decode func(any) error) error {
	type plain SourceConfig
	p := plain(defaultSource(""))
	err := decode(&p)
	*s = SourceConfig(p)
	return err
}

// checkDurations looks at durations before they are decoded: the decoder's own error
// would repeat the value and name no line.
func checkDurations(text []byte, cfg *Config) error {
	for _, f := range cfg.fields() {
		if f.value.Type() != reflect.TypeFor[time.Duration]() {
			continue
		}
		path, err := yaml.PathString("$." + f.path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err) // unreachable: the paths are ours
		}
		node, err := path.ReadNode(bytes.NewReader(text))
		if err != nil || node == nil || node.GetToken() == nil {
			continue // not there, or not readable: the decoder says so
		}
		if _, err := time.ParseDuration(node.GetToken().Value); err != nil {
			return fmt.Errorf("line %d: %s: want a duration such as 100ms, 30s or 1h", node.GetToken().Position.Line, f.path)
		}
	}
	return nil
}

// yamlError keeps line and message of the parser's error and drops its excerpt of the
// file: somebody may have put a secret there.
func yamlError(err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return err
	}
	line := 0
	if tok := ye.GetToken(); tok != nil && tok.Position != nil {
		line = tok.Position.Line
	}
	return fmt.Errorf("line %d: %s", line, ye.GetMessage())
}

// field is one leaf of the configuration.
type field struct {
	path  string // seal.salt_dir
	value reflect.Value
}

// fields lists the leaves of cfg in order; lists are leaves.
func (cfg *Config) fields() []field {
	var out []field
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			path := prefix + v.Type().Field(i).Tag.Get("yaml")
			if v.Field(i).Kind() == reflect.Struct {
				walk(path+".", v.Field(i))
				continue
			}
			out = append(out, field{path, v.Field(i)})
		}
	}
	walk("", reflect.ValueOf(cfg).Elem())
	return out
}

// isFile says whether a key names a file or a directory.
func (f field) isFile() bool {
	return f.value.Kind() == reflect.String && (strings.HasSuffix(f.path, "_file") || strings.HasSuffix(f.path, "_dir"))
}

// fromEnv takes the keys that end in _file from the environment, and refuses a secret
// that stands there itself.
func (cfg *Config) fromEnv(getenv func(string) string) error {
	for _, f := range cfg.fields() {
		if f.value.Kind() != reflect.String || !strings.HasSuffix(f.path, "_file") {
			continue
		}
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
		if path := getenv(name); path != "" {
			f.value.SetString(path)
		}
		if plain := strings.TrimSuffix(name, "_FILE"); getenv(plain) != "" {
			return fmt.Errorf("environment variable %s holds a secret, which other processes can see: put it into a file of mode 0600 and set %s to its path", plain, name)
		}
	}
	return nil
}

// resolve makes relative paths relative to the configuration file.
func (cfg *Config) resolve(dir string) {
	for _, f := range cfg.fields() {
		if p := f.value.String(); f.isFile() && p != "" && !filepath.IsAbs(p) {
			f.value.SetString(filepath.Join(dir, p))
		}
	}
	for i := range cfg.API.Issuers {
		if p := &cfg.API.Issuers[i].JWKSFile; *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// durationText prints a duration as short as it can be read back.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
