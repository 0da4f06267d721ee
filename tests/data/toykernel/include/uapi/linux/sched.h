#define SCHED 1
