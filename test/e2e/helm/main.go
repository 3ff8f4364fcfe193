// Renders a Helm chart as `helm template` does, as far as charts use it that keep to values, files, named templates and sprig: helm itself
// is in no package of Debian's. helm CHART RELEASE NAMESPACE, values as YAML on stdin; writes a JSON object of file names and texts.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/ioutil"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

// As .Files of helm, of which charts here use Get alone.
type files struct{ chart string }

func (f files) Get(name string) string {
	text, err := ioutil.ReadFile(filepath.Join(f.chart, name))
	if err != nil {
		return ""
	}
	return string(text)
}

func main() {
	if err := render(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(chart, release, namespace string) error {
	given, err := ioutil.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	values, own, about := map[string]interface{}{}, map[string]interface{}{}, map[string]interface{}{}
	defaults, err := ioutil.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	chartFile, err := ioutil.ReadFile(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return err
	}
	for _, one := range []struct {
		text []byte
		into *map[string]interface{}
	}{{defaults, &values}, {given, &own}, {chartFile, &about}} {
		if err := yaml.Unmarshal(one.text, one.into); err != nil {
			return err
		}
	}
	merge(values, own)

	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	names, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := ioutil.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := all.New(filepath.Base(name)).Parse(string(text)); err != nil {
			return err
		}
	}
	context := map[string]interface{}{
		"Values": values,
		"Files":  files{chart},
		"Chart":  capitalised(about),
		"Release": map[string]interface{}{
			"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
	}
	rendered := map[string]string{}
	for _, name := range names {
		base := filepath.Base(name)
		if strings.HasPrefix(base, "_") {
			continue
		}
		var out strings.Builder
		if err := all.ExecuteTemplate(&out, base, context); err != nil {
			return err
		}
		rendered[base] = strings.ReplaceAll(out.String(), "<no value>", "")
	}
	return json.NewEncoder(os.Stdout).Encode(rendered)
}

// Given values over those of the chart; null takes one away.
func merge(values, given map[string]interface{}) {
	for key, value := range given {
		into, isMap := values[key].(map[string]interface{})
		from, isGivenMap := value.(map[string]interface{})
		switch {
		case value == nil:
			delete(values, key)
		case isMap && isGivenMap:
			merge(into, from)
		default:
			values[key] = value
		}
	}
}

// .Chart is a struct in helm: .Chart.AppVersion.
func capitalised(about map[string]interface{}) map[string]interface{} {
	fields := map[string]interface{}{}
	for key, value := range about {
		fields[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return fields
}

func functions(all *template.Template) template.FuncMap {
	funcs := sprig.TxtFuncMap()
	delete(funcs, "env")
	delete(funcs, "expandenv")
	funcs["include"] = func(name string, context interface{}) (string, error) {
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, context)
		return out.String(), err
	}
	funcs["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	funcs["required"] = func(complaint string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, errors.New(complaint)
		}
		return value, nil
	}
	return funcs
}
