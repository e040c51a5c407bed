package conf

import (
	"path/filepath"
	"strings"
)

const pathHint = "write the path of a file"

// schemas checks what the file says of schemas. Whether the files that it names
// exist and compile is seen when they are read.
func (v *validator) schemas() {
	for _, name := range v.schemaNames {
		path, schema := KeyPath("schemas", name), v.config.Schemas[name]
		if schema == nil {
			v.badField(path, "must not be nil", "")
			continue
		}
		v.paths(KeyPath(path, "files"), schema.Files, pathHint)
		v.paths(KeyPath(path, "import_paths"), schema.ImportPaths, "write the path of a directory")
		v.notBlank(KeyPath(path, "descriptor_set"), schema.DescriptorSet, pathHint)
		v.reflection(KeyPath(path, "reflection"), schema.Reflection)
		v.sources(path, schema)
		v.name(path, name, "a schema") // last, as it silences checks below path
	}
}

// paths checks that a list has no entry that is empty or there twice.
func (v *validator) paths(path string, paths []string, hint string) {
	seen := map[string]string{}
	for i, p := range paths {
		path := ItemPath(path, i)
		if v.isBroken(path) {
			continue
		}
		if strings.TrimSpace(p) == "" {
			v.badField(path, "must not be empty", hint)
			continue
		}
		v.once(path, p, filepath.Clean(p), seen)
	}
}

func (v *validator) reflection(path string, r *Reflection) {
	if r == nil {
		v.notNull(path)
		return
	}
	v.clusterRef(KeyPath(path, "cluster"), r.Cluster)
	v.zeroOr(KeyPath(path, "refresh"), r.Refresh, minRefresh, maxRefresh, "0 is never")
}

// sources checks that a schema has exactly one.
func (v *validator) sources(path string, s *Schema) {
	var sources []string
	if len(s.Files) > 0 {
		sources = append(sources, "files")
	}
	if s.DescriptorSet != "" {
		sources = append(sources, "descriptor_set")
	}
	if s.Reflection != nil {
		sources = append(sources, "reflection")
	}
	switch {
	case len(sources) == 0:
		v.require(path, "has nowhere to take types from", "add files, descriptor_set or reflection")
	case len(sources) > 1:
		v.badField(path, "has "+strings.Join(sources, " and "), "keep one, and give the other a schema of its own")
	case len(s.ImportPaths) > 0 && sources[0] != "files":
		v.badField(KeyPath(path, "import_paths"), "are for files, and this schema has none", "remove them")
	}
}
