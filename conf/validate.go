package conf

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of values that have no natural end.
const (
	maxConnect     = Duration(time.Hour)
	maxShutdown    = Duration(24 * time.Hour)
	minKeepalive   = Duration(time.Second)
	maxKeepalive   = Duration(24 * time.Hour)
	maxIdle        = Duration(24 * time.Hour)
	maxTimeout     = Duration(30 * 24 * time.Hour)
	minRefresh     = Duration(time.Second)
	maxRefresh     = Duration(30 * 24 * time.Hour)
	maxConnections = 64 // from the proxy to one instance
	maxWeight      = 1000
	minPoolTTL     = Duration(100 * time.Millisecond)
	maxPoolTTL     = Duration(30 * 24 * time.Hour)

	minDiscoveryRefresh = Duration(time.Second)
	maxDiscoveryRefresh = Duration(24 * time.Hour)

	minCheckInterval = Duration(100 * time.Millisecond)
	maxCheckInterval = Duration(time.Hour)
	maxCheckTimeout  = Duration(time.Minute)
	maxCheckAnswers  = 100
	maxConsecutive   = 1000
	maxMinCalls      = 100_000
	minEjectInterval = Duration(time.Second)
	maxEjectInterval = Duration(time.Hour)
	minEjection      = Duration(100 * time.Millisecond)
	maxEjection      = Duration(time.Hour)
	maxSlowStart     = Duration(time.Hour)

	maxSplitWeight        = 1_000_000
	minAttempts           = 2
	maxAttempts           = 10
	maxFirstBackoff       = Duration(time.Minute)
	maxBackoff            = Duration(10 * time.Minute)
	maxBuffer        Size = 64 << 20
	maxBudgetPercent      = 1000
	maxHedge              = Duration(time.Minute)

	minRatePer     = Duration(time.Millisecond)
	maxRatePer     = Duration(24 * time.Hour)
	maxBurstSpan   = Duration(365 * 24 * time.Hour)
	maxLimitKeys   = 1_000_000
	minJWKSRefresh = Duration(time.Second)
	maxJWKSRefresh = Duration(24 * time.Hour)
	maxLeeway      = Duration(10 * time.Minute)

	maxLogBuffer   = 1_000_000
	maxMetric      = 100_000 // methods that are counted apart
	maxBuckets     = 100
	maxBucket      = 86400.0 // seconds
	maxOTLPTimeout = Duration(time.Minute)
	maxSpanQueue   = 1_000_000

	minPing       = Duration(time.Second)
	maxPing       = Duration(time.Hour)
	minHTTPStatus = 400
	maxHTTPStatus = 599

	maxMessage    Size = math.MaxUint32 // the length field of a gRPC message
	minHeaderList Size = 4 << 10
	maxHeaderList Size = 16 << 20
	minWindow     Size = 64 << 10
	maxWindow     Size = math.MaxInt32 // RFC 9113 section 6.9.1
)

const nameHint = `write 1 to 63 letters, digits, ".", "_" or "-", with a letter or a digit first`

// Validate returns every problem of a Config built in Go as an Errors, or nil. It
// changes nothing, so defaults must have been filled in: begin with Default and
// NewCluster, and set Mode of each Action and all of what is checked to be more
// than 0, such as Refresh of a Discovery. Load and Parse return valid ones.
func (c *Config) Validate() error {
	r := newReport("")
	validate(r, c)
	return r.err()
}

// ValidateRouting is Validate for a Config whose listeners are somebody
// else's: it leaves them out, with those of HTTP and the admin address.
func (c *Config) ValidateRouting() error {
	r := newReport("")
	newValidator(r, c).allButListeners()
	return r.err()
}

// validator checks a Config section by section, in the order of the type.
type validator struct {
	*report
	config       *Config
	clusterNames []string                 // sorted
	schemaNames  []string                 // sorted
	linkNames    []string                 // of the configuration's interceptors, sorted
	listening    map[parsedAddress]string // path of the listener by its address
	taken        map[string]string        // path of the matcher by the method, service or package ("a.") it takes
}

func newValidator(r *report, c *Config) *validator {
	return &validator{
		report:       r,
		config:       c,
		clusterNames: slices.Sorted(maps.Keys(c.Clusters)),
		schemaNames:  slices.Sorted(maps.Keys(c.Schemas)),
		linkNames:    slices.Sorted(maps.Keys(c.Interceptors)),
		listening:    map[parsedAddress]string{},
		taken:        map[string]string{},
	}
}

func validate(r *report, c *Config) {
	v := newValidator(r, c)
	v.listeners()
	v.httpListeners()
	v.admin()
	v.allButListeners()
}

func (v *validator) allButListeners() {
	v.clusters()
	v.schemas()
	v.routes()
	v.hashFields()
	v.links()
	v.http()
	v.timeouts()
	v.limits()
	v.transport()
	v.log()
	v.accessLog()
	v.metrics()
	v.tracing()
}

func (v *validator) listeners() {
	if len(v.config.Listeners) == 0 {
		v.require("listeners", "at least one is needed", `add one, such as "- address: 127.0.0.1:8888"`)
	}
	for i := range v.config.Listeners {
		path, l := ItemPath("listeners", i), &v.config.Listeners[i]
		v.listenerAddress(KeyPath(path, "address"), l.Address, listenerHint)
		v.listenerTLS(KeyPath(path, "tls"), l.TLS)
		v.linkRefs(KeyPath(path, "interceptors"), l.Interceptors)
		v.certificateLinks(path, l.Interceptors, l.TLS)
	}
}

// listenerAddress checks an address to listen at, which nothing else does.
func (v *validator) listenerAddress(path, address, hint string) {
	parsed, ok := v.address(path, address, hint)
	if !ok || parsed.path == "" && parsed.port == 0 {
		return // port 0 is a free port, another one each time
	}
	if earlier, again := v.listening[parsed]; again {
		v.badValue(path, address, "is already "+v.reference(earlier), "remove one of the two")
		return
	}
	v.listening[parsed] = path
}

// address checks an address; ok is false if it cannot be used in other checks.
func (v *validator) address(path, address, generalHint string) (parsed parsedAddress, ok bool) {
	if v.isBroken(path) {
		return parsed, false
	}
	parsed, problem, hint := parseAddress(address)
	if problem == "" {
		return parsed, true
	}
	if hint == "" {
		hint = generalHint
	}
	v.badValue(path, address, problem, hint)
	return parsed, false
}

// reachable is address for one to connect to, which has a host and a port.
func (v *validator) reachable(path, address, hint string) (parsed parsedAddress, ok bool) {
	parsed, ok = v.address(path, address, hint)
	if !ok {
		return parsed, false
	}
	if problem := parsed.unreachable(); problem != "" {
		v.badValue(path, address, problem, hint)
		return parsed, false
	}
	return parsed, true
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// name checks what a key of a map calls a thing, which has its article.
func (v *validator) name(path, name, thing string) {
	if !plainName.MatchString(name) {
		v.badField(path, "is not a name for "+thing, nameHint)
	}
}

func (v *validator) timeouts() {
	t := v.config.Timeouts
	v.moreThanZero("timeouts.connect", t.Connect, maxConnect)
	between(v, "timeouts.shutdown", t.Shutdown, 0, maxShutdown)
	between(v, "timeouts.keepalive", t.Keepalive, minKeepalive, maxKeepalive)
	between(v, "timeouts.idle_connection", t.IdleConnection, 0, maxIdle)
}

func (v *validator) limits() {
	l := v.config.Limits
	between(v, "limits.message", l.Message, 0, maxMessage)
	between(v, "limits.header_list", l.HeaderList, minHeaderList, maxHeaderList)
	between(v, "limits.streams_per_connection", l.StreamsPerConnection, 1, math.MaxInt32)
	between(v, "limits.connections", l.Connections, 1, math.MaxInt32)
	between(v, "limits.stream_window", l.StreamWindow, minWindow, maxWindow)
	between(v, "limits.connection_window", l.ConnectionWindow, minWindow, maxWindow)
	if l.ConnectionWindow < l.StreamWindow && !v.isBroken("limits.stream_window") && !v.isBroken("limits.connection_window") {
		v.badValue("limits.connection_window", l.ConnectionWindow.String(), "is less than limits.stream_window",
			"write at least "+v.written("limits.stream_window", l.StreamWindow))
	}
}

func (v *validator) transport() {
	v.oneOf("transport", v.config.Transport, []string{TransportNative, TransportKitex})
}

func (v *validator) log() {
	v.oneOf("log.level", v.config.Log.Level, []string{"debug", "info", "warn", "error"})
	v.oneOf("log.format", v.config.Log.Format, []string{"text", "json"})
}

// require reports something that is missing, unless the reason is another
// problem at or below path.
func (v *validator) require(path, problem, hint string) {
	if !v.isBroken(path) && !v.touched[path] {
		v.badField(path, problem, hint)
	}
}

// notBlank refuses blank text where text may be left out: something was to be
// written there. In a Config built in Go, "" is left out.
func (v *validator) notBlank(path, value, hint string) {
	leftOut := value == "" && !v.has(path)
	if !leftOut && strings.TrimSpace(value) == "" && !v.isBroken(path) {
		v.badField(path, "must not be empty", hint)
	}
}

// notEmpty is notBlank for text that must be there.
func (v *validator) notEmpty(path, value, hint string) {
	v.notBlank(path, value, hint)
	if value == "" {
		v.require(path, "must not be empty", hint)
	}
}

// texts checks that a list has no entry that is empty or there twice.
func (v *validator) texts(path string, texts []string, hint string) {
	seen := map[string]string{}
	for i, text := range texts {
		path := ItemPath(path, i)
		switch {
		case v.isBroken(path):
		case strings.TrimSpace(text) == "":
			v.badField(path, "must not be empty", hint)
		default:
			v.once(path, text, text, seen)
		}
	}
}

// notNull refuses a key of something optional with nothing after it, as it might
// be taken to switch that on.
func (v *validator) notNull(path string) {
	if v.has(path) && !v.isBroken(path) {
		v.badField(path, "has no value", "write one or remove the line")
	}
}

// once refuses what has been seen, and otherwise remembers path as the place of
// it. value is what a message shows; "" for a key of a map, which path ends in.
func (v *validator) once(path, value, it string, seen map[string]string) {
	earlier, again := seen[it]
	if !again {
		seen[it] = path
		return
	}
	problem, hint := "is already "+v.reference(earlier), "remove one of the two"
	if value == "" {
		v.badField(path, problem, hint)
		return
	}
	v.badValue(path, value, problem, hint)
}

func (v *validator) oneOf(path, value string, valid []string) {
	if v.isBroken(path) || slices.Contains(valid, value) {
		return
	}
	v.choice(path, value, "is not valid", "valid values", valid)
}

// choice reports a value that is none of the valid ones.
func (v *validator) choice(path, value, problem, all string, valid []string) {
	if v.full() { // the nearest of many names takes a while to find
		v.more = true
		return
	}
	if value == "" {
		v.badField(path, "must not be empty", all+": "+enumerate(valid))
		return
	}
	v.badValue(path, value, problem, didYouMean(value, all, valid))
}

// between checks that low <= value <= high.
func between[T int | float64 | Duration | Size](v *validator, path string, value, low, high T) {
	if low <= value && value <= high || v.isBroken(path) {
		return
	}
	v.badValue(path, fmt.Sprint(value), fmt.Sprintf("is not from %v to %v", low, high), "")
}

// moreThanZero checks that 0 < value <= high.
func (v *validator) moreThanZero(path string, value, high Duration) {
	if value == 0 && !v.isBroken(path) {
		v.badValue(path, "0", "is not more than 0", durationHint)
	}
	between(v, path, value, 0, high)
}

// zeroOr checks that value is 0 or low <= value <= high. hint says what 0 is.
func (v *validator) zeroOr(path string, value, low, high Duration, hint string) {
	if value != 0 && (value < low || value > high) && !v.isBroken(path) {
		v.badValue(path, value.String(), "is not from "+low.String()+" to "+high.String(), hint)
	}
}

// option is a key that excludes others.
type option struct {
	key   string
	isSet bool
}

// exactlyOne checks that one of the options of path is set. Called last, as it
// silences checks below path.
func (v *validator) exactlyOne(path string, options ...option) {
	var all, set []string
	for _, o := range options {
		all = append(all, o.key)
		if o.isSet {
			set = append(set, o.key)
		}
	}
	switch {
	case len(set) == 0:
		v.require(path, "has none of "+listed(all), "add one of them")
	case len(set) > 1 && !v.isBroken(path):
		v.badField(path, "has "+listed(set), "keep one of them")
	}
}

// listed returns words as a sentence has them: "a, b and c".
func listed(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// together checks that of two keys of path both are set or none.
func (v *validator) together(path string, a, b option) {
	if a.isSet {
		a, b = b, a
	}
	missing := KeyPath(path, a.key)
	if !a.isSet && b.isSet && !v.isBroken(missing) {
		v.badField(missing, "is needed with "+b.key, "add it, or remove "+b.key)
	}
}

// written returns a value as the file has it.
func (v *validator) written(path string, value fmt.Stringer) string {
	if text := v.places[path].text; text != "" {
		return text
	}
	return value.String()
}

// reference names another field, with its line if there is one.
func (v *validator) reference(path string) string {
	if at, ok := v.places[path]; ok {
		return path + " in line " + strconv.Itoa(at.line)
	}
	return path
}
