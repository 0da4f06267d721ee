#!/usr/bin/env bash
# junit-cli-report-viewer shows a test case that has an <error> with a check mark, as it does one that passed, and counts
# it in no total; only <failure> counts as failed. JUnit separates the two: <failure> for an assertion that did not hold,
# <error> for anything else that ended the test, which is how a crash of the kernel under test is written. So a report in
# which every test crashed looks green.
#
# Seen with: junit-cli-report-viewer 3.0.0 (npm), Node.js 20. It printed, for one test case of each kind:
#   > Total number of tests:        3
#   > Total number of failed tests: 1
#      ✔ passes (1)
#      ✖ fails (1)
#      ✔ crashes (1)
# Exits with 0 as long as it behaves so. Needs npm.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --prefix viewer junit-cli-report-viewer@3.0.0
cat > report.xml <<'XML'
<?xml version="1.0"?>
<testsuites><testsuite name="s" tests="3" failures="1" errors="1">
<testcase classname="c" name="passes" time="1"/>
<testcase classname="c" name="fails" time="1"><failure message="wrong">wrong</failure></testcase>
<testcase classname="c" name="crashes" time="1"><error message="panic">panic</error></testcase>
</testsuite></testsuites>
XML
viewer/node_modules/.bin/junit-cli-report-viewer report.xml | tee shown
grep -q 'failed tests: 1' shown
grep -q '✔ passes' shown
grep -q '✖ fails' shown
grep -q '✔ crashes' shown
echo "as described: an <error> is shown like a pass"
