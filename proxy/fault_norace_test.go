//go:build !race

package proxy_test

// raceDetector says that the tests run under the race detector.
const raceDetector = false
