extern int sched;
