package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// minJava is the oldest Java that the foreign servers run on.
const minJava = 17

// javaPackages is what to install on Debian.
const javaPackages = "default-jdk-headless (Java 17 or newer)"

// JDK is a Java development kit of this machine.
type JDK struct{ Java, Javac string }

var javaVersion = regexp.MustCompile(`version "(?:1\.)?([0-9]+)`)

// FindJava finds a Java 17 or newer that can compile: the one JAVA_HOME names, else the
// one on the path.
func FindJava(ctx context.Context) (JDK, error) {
	var j JDK
	for name, to := range map[string]*string{"java": &j.Java, "javac": &j.Javac} {
		if home := os.Getenv("JAVA_HOME"); home != "" {
			name = filepath.Join(home, "bin", name)
		}
		path, err := tool(name, javaPackages)
		if err != nil {
			return JDK{}, err
		}
		*to = path
	}
	out, err := output(ctx, "", []string{j.Java, "-version"})
	if err != nil {
		return JDK{}, fmt.Errorf("ask %s for its version: %w", j.Java, err)
	}
	version, err := parseJavaVersion(out)
	if err != nil {
		return JDK{}, fmt.Errorf("ask %s for its version: %w", j.Java, err)
	}
	if version < minJava {
		return JDK{}, fmt.Errorf("%s is Java %d, want %d or newer; on Debian: apt-get install %s", j.Java, version, minJava, javaPackages)
	}
	return j, nil
}

func parseJavaVersion(out string) (int, error) {
	m := javaVersion.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no version in %q", lastLines(out, 3))
	}
	return strconv.Atoi(m[1])
}

// AvroJars are the coordinates of Apache Avro.
func AvroJars() []string { return []string{"org.apache.avro:avro:1.12.1"} }

// Command is the command line that compiles one source file in memory and runs it with a
// class path such as "DIR/*:OTHER/*".
func (j JDK) Command(classPath, source string, args ...string) []string {
	// C1 alone: these programs end before C2 would pay.
	return append([]string{j.Java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classPath, source}, args...)
}
