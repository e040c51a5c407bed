#!/usr/bin/env bash
# The tasks of this project. ./build.sh without arguments builds into output/,
# as in any Kitex project; ./build.sh help lists the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly module=github.com/kitexproxy/kitexproxy
readonly tools=.ci/tools/go.mod

usage() {
  cat <<'HELP'
usage: ./build.sh [task] [arguments]

  build   build output/: bin/kitexproxy, conf/, idl/ and bootstrap.sh (the default)
  run     run the proxy with the demo backend:   go run .
  demo    make calls through it and show them:   go run . demo
  test    run the tests:                         go test ./...
  race    run the tests with the race detector:  go test -race ./...
  fuzz    run each fuzz target for FUZZTIME (default 10s)
  h2spec  build, and check the HTTP/2 of the result: .ci/h2spec/run
  bench   measure the proxy beside others:       cd bench && go run .
  lint    look for mistakes: vet, format, linters, shellcheck
  fmt     format the code
  gen     generate kitex_gen from idl/
  help    show this

Arguments go to the program behind the task: ./build.sh test -run TestRelay
HELP
}

say() { printf '==> %s\n' "$*" >&2; }

# show prints a command and runs it.
show() {
  say "$*"
  "$@"
}

# has_tool tells whether the tools module has a tool.
has_tool() { [ -f "$tools" ] && grep -Eq "^(tool)?[[:space:]].*/$1([[:space:]]|\$)" "$tools"; }

# own_files lists the Go files that people write.
own_files() { find . -name '*.go' -not -name '*.pb.go' -not -name '*.pb.gw.go' -not -path './kitex_gen/*' -not -path './output/*'; }

version() { git describe --tags --always --dirty 2>/dev/null || echo unknown; }

task_build() {
  say "build output/"
  rm -rf output
  mkdir -p output/bin output/conf output/idl
  show go build -trimpath -ldflags "-X $module/proxy/cli.version=$(version)" -o output/bin/kitexproxy "$@" .
  cp conf/proxy.yaml output/conf/
  cp idl/*.proto output/idl/ # where conf/proxy.yaml looks for its schema
  cat >output/bootstrap.sh <<'BOOTSTRAP'
#!/usr/bin/env bash
# Runs the proxy with conf/proxy.yaml. Flags beat the file: see --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec bin/kitexproxy serve -c conf/proxy.yaml "$@"
BOOTSTRAP
  chmod +x output/bootstrap.sh
  say "start it with output/bootstrap.sh"
}

# top_level describes what is in the project's own directory.
top_level() {
  find . -maxdepth 1 -not -name kitex_gen | sort
  find . -maxdepth 1 -type f -exec cksum {} + | sort
}

task_gen() {
  local before
  before=$(top_level)
  local proto
  for proto in idl/*.proto; do
    show go tool kitex -module "$module" -I idl "$@" "$proto"
  done
  # Kitex also writes build.sh, handler.go and main.go when told of a service.
  if ! diff <(printf '%s\n' "$before") <(top_level) >&2; then
    say "gen has changed more than kitex_gen/ (see above): undo that"
    return 1
  fi
}

task_test() { show go test "$@" ./...; }

task_race() { show go test -race "$@" ./...; }

task_lint() {
  show go vet ./...
  local formatter=(gofmt)
  if has_tool gofumpt; then formatter=(go tool -modfile="$tools" gofumpt); fi
  say "${formatter[*]} -l"
  local unformatted
  unformatted=$(own_files | xargs "${formatter[@]}" -l)
  if [ -n "$unformatted" ]; then
    printf 'not formatted, ./build.sh fmt does it:\n%s\n' "$unformatted" >&2
    return 1
  fi
  if has_tool staticcheck; then show go tool -modfile="$tools" staticcheck ./...; fi
  if has_tool golangci-lint; then show go tool -modfile="$tools" golangci-lint run "$@" ./...; fi
  if command -v shellcheck >/dev/null; then show shellcheck build.sh .ci/run .ci/h2spec/run; fi
}

task_fmt() {
  local formatter=(gofmt)
  if has_tool gofumpt; then formatter=(go tool -modfile="$tools" gofumpt); fi
  say "${formatter[*]} -w"
  own_files | xargs "${formatter[@]}" -l -w
}

# task_fuzz builds the fuzz targets of each package once, and runs them one by one, as
# go test -fuzz would: a package's values that have been of interest are kept with Go's.
task_fuzz() {
  local folder target program known
  program=$(mktemp)
  known=$(go env GOCACHE)/fuzz/$module
  while read -r folder; do
    show go test -c -fuzz . -o "$program" "$@" "./$folder"
    while IFS= read -r target; do
      (
        cd "$folder"
        say "$folder: $target"
        "$program" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${FUZZTIME:-10s}" -test.fuzzminimizetime 100x \
          -test.fuzzcachedir "$known/$folder"
      )
    done < <(grep -Eoh '^func Fuzz[A-Za-z0-9_]*' "$folder"/*_test.go | cut -c 6- | sort)
  done < <(grep -rl --include='*_test.go' --exclude-dir=bench --exclude-dir=.ci '^func Fuzz' . | xargs -n 1 dirname | cut -c 3- | sort -u)
  rm -f "$program"
}

task_h2spec() {
  task_build "$@"
  show .ci/h2spec/run output/bin/kitexproxy
}

task_bench() {
  say "cd bench && go run . $*"
  cd bench
  exec go run . "$@"
}

task_run() { show go run . "$@"; }

task_demo() { show go run . demo "$@"; }

main() {
  local task=${1:-build}
  if [ $# -gt 0 ]; then shift; fi
  case $task in
    build | gen | test | race | lint | bench | run | demo | fuzz | h2spec | fmt) "task_$task" "$@" ;;
    help | -h | --help) usage ;;
    *)
      printf 'build.sh: unknown task "%s"\n\n' "$task" >&2
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"
