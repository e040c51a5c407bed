package openapi

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// comment returns what the source says of d, "" if it says nothing or is not there:
// schemas by reflection mostly come without.
func comment(d protoreflect.Descriptor) string {
	location := d.ParentFile().SourceLocations().ByDescriptor(d)
	text := location.LeadingComments
	if strings.TrimSpace(text) == "" {
		text = location.TrailingComments
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimRight(strings.TrimPrefix(line, " "), " \t\r\n"))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// headline splits a comment into its first paragraph, on one line, and the rest.
func headline(text string) (first, rest string) {
	first, rest, _ = strings.Cut(text, "\n\n")
	return strings.Join(strings.Fields(first), " "), strings.Trim(rest, "\n")
}

// paragraphs joins those texts that are not empty.
func paragraphs(texts ...string) string {
	var all []string
	for _, text := range texts {
		if text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "\n\n")
}
