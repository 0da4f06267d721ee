"""A small ftracetest with the upstream shape, for tests that run copies of it with a real sh.

It has what the harness takes hold of, as in 7.3; initialize_system tells each time it is called."""

UPSTREAM = """\
#!/bin/sh
sched_rt_runtime=$HERE/sched_rt
sched_rt_runtime_orig=$(cat $sched_rt_runtime)
setup() {
  echo -1 > $sched_rt_runtime
}
cleanup() {
  echo $sched_rt_runtime_orig > $sched_rt_runtime
}
setup
TOP_DIR=$HERE
TEST_DIR=$TOP_DIR/test.d
TRACING_DIR=$HERE/tracing
KTAP=1
TEST_CASES=`find $TEST_DIR -name '*.tc' | sort`
test_on_instance() { # testfile
  grep -q "^#[ \\t]*flags:.*instance" $1
}
checkreq() { :; }
prlog() { echo "$*"; }
__run_test() { # testfile
  (cd $TRACING_DIR; set -e;
   checkreq $1; initialize_system; . $1)
  [ $? -ne 0 ] && SIG_RESULT=1
}
eval_result() { # sigval
  [ $1 -eq 0 ] && result=ok || result="not ok"
  echo $result $CASENO $INSTANCE a test  # unquoted, as there
  return $1
}
run_test() { # testfile
  CASENO=$((CASENO+1))
  echo "execute$INSTANCE: $1"
  SIG_RESULT=0
  __run_test $1 2>&1
  eval_result $SIG_RESULT
  [ $? -eq 0 ] || TOTAL=1
}

# load in the helper functions
. $TEST_DIR/functions

if [ "$KTAP" = "1" ]; then
  echo "TAP version 13"

  casecount=`echo $TEST_CASES | wc -w`
  for t in $TEST_CASES; do
    test_on_instance $t || continue
    casecount=$((casecount+1))
  done
  echo "1..${casecount}"
fi

# Main loop
for t in $TEST_CASES; do
  run_test $t
  if [ 0 -ne 0 ]; then
    exit 1
  fi
done

# Test on instance loop
(cd $TRACING_DIR; initialize_system)
INSTANCE=" (instance) "
for t in $TEST_CASES; do
  test_on_instance $t || continue
  SAVED_TRACING_DIR=$TRACING_DIR
  export TRACING_DIR=`mktemp -d $TRACING_DIR/instances/ftracetest.XXXXXX`
  run_test $t
  rmdir $TRACING_DIR
  TRACING_DIR=$SAVED_TRACING_DIR
done
(cd $TRACING_DIR; finish_system) # for cleanup

prlog ""
prlog "# of passed: " `echo $PASSED_CASES | wc -w`

if [ "$KTAP" = "1" ]; then
  echo -n "# Totals:"
  echo
fi

cleanup

exit 0
"""
FUNCTIONS = """\
initialize_system() { echo "reset ${PWD##*/}"; }
finish_system() { echo "reset at the end"; }
"""
