package rule

import "google.golang.org/protobuf/reflect/protoreflect"

// mask is what redacted values are replaced by.
const mask = "***"

// set sets the field that p leads to, and creates what is on the way; a value
// that is not valid clears it. It reports whether that changes the message.
func (p path) set(m protoreflect.Message, v protoreflect.Value) bool {
	if !v.IsValid() {
		return p.clear(m)
	}
	created := false
	for _, fd := range p[:len(p)-1] {
		created = created || !m.Has(fd)
		m = m.Mutable(fd).Message()
	}
	fd := p.last()
	if (m.Has(fd) || !fd.HasPresence()) && m.Get(fd).Equal(v) {
		return created
	}
	m.Set(fd, v)
	return true
}

// clear clears the field that p leads to, and reports whether it was set.
func (p path) clear(m protoreflect.Message) bool {
	for _, fd := range p[:len(p)-1] {
		if !m.Has(fd) {
			return false
		}
		m = m.Mutable(fd).Message()
	}
	if !m.Has(p.last()) {
		return false
	}
	m.Clear(p.last())
	return true
}

// redact masks the strings and bytes that p leads to, and reports whether that
// changes the message.
func (p path) redact(m protoreflect.Message) bool {
	fd := p[0]
	if !m.Has(fd) {
		return false
	}
	changed := false
	switch {
	case fd.IsList():
		list := m.Mutable(fd).List()
		for i := range list.Len() {
			if len(p) > 1 {
				changed = p[1:].redact(list.Get(i).Message()) || changed
			} else if v, masked := masked(fd, list.Get(i)); masked {
				list.Set(i, v)
				changed = true
			}
		}
	case fd.IsMap():
		entries := m.Mutable(fd).Map()
		entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			if len(p) > 1 {
				changed = p[1:].redact(v.Message()) || changed
			} else if v, masked := masked(fd.MapValue(), v); masked {
				entries.Set(k, v)
				changed = true
			}
			return true
		})
	case len(p) > 1:
		return p[1:].redact(m.Mutable(fd).Message())
	default:
		v, masked := masked(fd, m.Get(fd))
		if masked {
			m.Set(fd, v)
		}
		return masked
	}
	return changed
}

// masked returns the value that replaces v, and false if it is that already.
func masked(fd protoreflect.FieldDescriptor, v protoreflect.Value) (protoreflect.Value, bool) {
	if fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(mask), v.String() != mask
	}
	return protoreflect.ValueOfBytes([]byte(mask)), string(v.Bytes()) != mask
}
