package conf

// Schema is a source of message types for ModeDynamic: exactly one of Files,
// DescriptorSet and Reflection is set. Relative paths in a file are relative to
// the file's directory (see Load); in a Config built in Go, to the working
// directory.
type Schema struct {
	// Files are the .proto files that define the services, by their paths in
	// the file system.
	Files []string `yaml:"files"`
	// ImportPaths are the directories that imports in Files are relative to,
	// in the order in which they are searched. With Files only. Default: the
	// directories of Files.
	ImportPaths []string `yaml:"import_paths"`
	// DescriptorSet is a file with a serialised FileDescriptorSet that holds
	// all imports, as "protoc --include_imports --descriptor_set_out" and
	// "buf build" write it.
	DescriptorSet string `yaml:"descriptor_set,omitempty"`
	// Reflection asks backends for their types.
	Reflection *Reflection `yaml:"reflection,omitempty"`
}

// Reflection asks the backends of a cluster for their types by gRPC server
// reflection.
type Reflection struct {
	// Cluster is the name of the cluster that is asked.
	Cluster string `yaml:"cluster"`
	// Refresh is how often it is asked again. Default 5m; zero is never.
	Refresh Duration `yaml:"refresh"`
}
