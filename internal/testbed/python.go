package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// pythonPackages are what the foreign programs import.
func pythonPackages() []string { return []string{"fastavro==1.13.1", "confluent-kafka[avro]==2.16.0"} }

// pythonConstraints pin what these need in turn, so that two machines run the same.
func pythonConstraints() []string {
	return []string{
		"anyio==4.16.0", "attrs==26.1.0", "Authlib==1.9.10", "avro==1.12.2", "cachetools==8.0.2", "certifi==2026.10.19.post1",
		"cffi==2.1.1", "charset-normalizer==3.5.2", "cryptography==50.0.2", "h11==0.16.0", "httpcore2==2.16.2", "httpx2==2.16.2",
		"idna==3.20", "joserfc==1.8.0", "pycparser==3.12", "requests==2.34.2", "truststore==0.10.5", "typing_extensions==4.16.0", "urllib3==2.8.0",
	}
}

// minPython is what the pinned packages need.
const minPython = "3.11"

// PythonEnv returns the interpreter of a virtual environment that has fastavro and
// confluent-kafka (librdkafka), at pinned versions. What pip fetched once is found again
// in cacheDir, or in the user's cache when that is empty; pip's own settings say where
// from.
func PythonEnv(ctx context.Context, cacheDir string) (string, error) {
	python, err := tool("python3", "python3-venv python3-pip")
	if err != nil {
		return "", err
	}
	version, err := output(ctx, "", []string{python, "-c", "import sys; print('%d.%d %s' % (*sys.version_info[:2], sys.version_info >= (" + strings.ReplaceAll(minPython, ".", ", ") + ")))"})
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", python, err, lastLines(version, 3))
	}
	if number, fine, _ := strings.Cut(strings.TrimSpace(version), " "); fine != "True" {
		return "", fmt.Errorf("%s is Python %s, want %s or newer; on Debian 12 or newer: apt-get install python3-venv python3-pip", python, number, minPython)
	}
	// A virtual environment belongs to the interpreter that made it.
	packages, constraints := pythonPackages(), pythonConstraints()
	key := cacheKey("python", python, version, runtime.GOARCH, strings.Join(packages, " "), strings.Join(constraints, " "))
	dir, err := cached(ctx, cacheDir, key, func(dir string) error {
		if out, err := output(ctx, dir, []string{python, "-m", "venv", dir}); err != nil {
			return fmt.Errorf("make a Python environment: %w; on Debian: apt-get install python3-venv; it printed:\n%s", err, lastLines(out, 6))
		}
		file := filepath.Join(dir, "constraints.txt")
		if err := os.WriteFile(file, []byte(strings.Join(constraints, "\n")+"\n"), 0o644); err != nil {
			return err
		}
		// Wheels only: a compiler and librdkafka's headers are not asked of anybody.
		command := append([]string{interpreter(dir), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:", "-c", file}, packages...)
		if err := again(ctx, dir, command, []string{"No matching distribution", "ResolutionImpossible"}); err != nil {
			return fmt.Errorf("fetch %s by pip, whose settings say where from: %w", strings.Join(packages, " and "), err)
		}
		if out, err := output(ctx, dir, []string{interpreter(dir), "-c", "import fastavro, confluent_kafka.schema_registry.avro"}); err != nil {
			return fmt.Errorf("import what pip installed: %w:\n%s", err, lastLines(out, 6))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return interpreter(dir), nil
}

func interpreter(dir string) string { return filepath.Join(dir, "bin", "python3") }
