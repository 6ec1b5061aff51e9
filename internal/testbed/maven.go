package testbed

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// KafkaJars are the coordinates of a Kafka broker with its clients and a logger.
func KafkaJars() []string {
	return []string{"org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"}
}

// The plugin is pinned like all else: a new one may copy other things. The old one
// copies an artifact whose parent project the repository does not hold, which the new
// one wants to read first; Maven 4 may not run it.
const (
	dependencyPlugin    = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
	dependencyPluginOld = "org.apache.maven.plugins:maven-dependency-plugin:2.10"
)

// maxUnpacked bounds what an archive may hold, so that a broken one cannot fill the disk.
const maxUnpacked = 1 << 30

// FetchJars fetches the artifacts (group:artifact:version) and all they need at run
// time with Maven, and returns the directory that holds the jars. The user's own Maven
// settings say where from. What was fetched once is found again in cacheDir, or in the
// user's cache when that is empty.
func FetchJars(ctx context.Context, cacheDir string, coords []string) (string, error) {
	pom, err := pomOf(coords)
	if err != nil {
		return "", err
	}
	return cached(ctx, cacheDir, cacheKey("jars", coords...), func(dir string) error {
		return maven(ctx, pom, dir, dependencyPlugin+":copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
}

// FetchArtifact fetches one artifact without what it depends on
// (group:artifact:version:type:classifier) and returns the directory that holds it. A
// tar.gz is unpacked there.
func FetchArtifact(ctx context.Context, cacheDir, coord string) (string, error) {
	parts := strings.Split(coord, ":")
	if len(parts) < 4 || len(parts) > 5 || slices.Contains(parts, "") {
		return "", fmt.Errorf("artifact %q: want group:artifact:version:type or group:artifact:version:type:classifier", coord)
	}
	pom, err := pomOf(nil)
	if err != nil {
		return "", err
	}
	return cached(ctx, cacheDir, cacheKey(parts[1], coord), func(dir string) error {
		args := []string{"-Dartifact=" + coord, "-DoutputDirectory=" + dir}
		if err := maven(ctx, pom, dir, append([]string{dependencyPlugin + ":copy"}, args...)...); err != nil {
			if maven(ctx, pom, dir, append([]string{dependencyPluginOld + ":copy"}, args...)...) != nil {
				return err
			}
		}
		if parts[3] != "tar.gz" {
			return nil
		}
		archives, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
		if err != nil || len(archives) != 1 {
			return fmt.Errorf("artifact %s: found %d archives, want one", coord, len(archives))
		}
		if err := unpack(archives[0], dir); err != nil {
			return fmt.Errorf("unpack artifact %s: %w", coord, err)
		}
		return os.Remove(archives[0])
	})
}

// maven runs one goal, offline first: what Maven already has must not need a network.
func maven(ctx context.Context, pom []byte, dir string, goal ...string) error {
	if _, err := FindJava(ctx); err != nil {
		return err
	}
	mvn, err := tool("mvn", "maven")
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "sealstream-maven-")
	if err != nil {
		return fmt.Errorf("run mvn: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
		return fmt.Errorf("run mvn: %w", err)
	}
	command := append([]string{mvn, "-B", "-q"}, goal...)
	if _, err := output(ctx, work, append(command, "-o")); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("run mvn: %w", ctx.Err())
		}
		if err := again(ctx, work, command, []string{"Could not find artifact", "was not found in", "Non-parseable POM", "Non-readable settings"}); err != nil {
			return fmt.Errorf("fetch by Maven, whose settings say where from: %w", err)
		}
	}
	if empty, err := isEmpty(dir); err != nil || empty {
		return errors.Join(fmt.Errorf("fetch by Maven: %s has nothing in it", dir), err)
	}
	return nil
}

// pomOf writes a project that is nothing but its dependencies.
func pomOf(coords []string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n" +
		"<groupId>sealstream.testbed</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>\n<dependencies>\n")
	for _, c := range coords {
		parts := strings.Split(c, ":")
		if len(parts) != 3 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("artifact %q: want group:artifact:version", c)
		}
		b.WriteString("<dependency>")
		for i, name := range []string{"groupId", "artifactId", "version"} {
			b.WriteString("<" + name + ">")
			if err := xml.EscapeText(&b, []byte(parts[i])); err != nil {
				return nil, fmt.Errorf("artifact %q: %w", c, err)
			}
			b.WriteString("</" + name + ">")
		}
		b.WriteString("</dependency>\n")
	}
	b.WriteString("</dependencies>\n</project>\n")
	return b.Bytes(), nil
}

// unpack writes the files of a tar.gz below dir. A name that leads out of dir, and
// anything but files and directories, is an error.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			// What follows the end of the tar carries the checksum.
			_, err = io.Copy(io.Discard, z)
			return err
		}
		if err != nil {
			return err
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("it holds more than %d bytes", maxUnpacked)
		}
		if err := unpackOne(root, h, r); err != nil {
			return err
		}
	}
}

func unpackOne(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(h.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("entry %q leads out of the archive", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(filepath.Clean(name), 0o755)
	case tar.TypeReg:
	default:
		return fmt.Errorf("entry %q is neither a file nor a directory", h.Name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|h.FileInfo().Mode().Perm()&0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
