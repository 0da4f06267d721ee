// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * A module to be patched: functions that tell which of them ran, and functions to sleep in. None is exported.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/wait.h>

#include "harness_test.h"

/* A function of its own whatever the compiler could do about it: called, with its own name and a real frame. */
#ifdef __clang__
#define patchable noinline
#else
#define patchable noinline __attribute__((__noipa__))
#endif

static char *instance = "1";
module_param(instance, charp, 0444);
MODULE_PARM_DESC(instance, "tells one insertion of this module from the next");

static bool fail;
module_param(fail, bool, 0444);
MODULE_PARM_DESC(fail, "the initialisation fails");

static DECLARE_WAIT_QUEUE_HEAD(klp_target_queue);
static unsigned int klp_target_wakes;
static atomic_t klp_target_asleep = ATOMIC_INIT(0);

static int klp_target_secret = 4711;

static patchable const char *klp_target_name(void)
{
	const char *name = "original";

	OPTIMIZER_HIDE_VAR(name);
	return name;
}

static patchable const char *klp_target_other(void)
{
	const char *name = "original";

	OPTIMIZER_HIDE_VAR(name);
	return name;
}

/* Called by nobody here but the reader of "secret": klp_relocated calls it through a livepatch relocation. */
static patchable int klp_target_twice(int value)
{
	return 2 * value;
}

/* Sleep until somebody writes to "wake". */
static patchable int klp_target_sleep(void)
{
	unsigned int before = READ_ONCE(klp_target_wakes);
	int ret;

	atomic_inc(&klp_target_asleep);
	/* killable: a signal that is none, which livepatch sends to laggards, does not wake it */
	ret = wait_event_killable(klp_target_queue, READ_ONCE(klp_target_wakes) != before);
	atomic_dec(&klp_target_asleep);
	return ret;
}

/* The same, but any signal wakes it. */
static patchable int klp_target_doze(void)
{
	unsigned int before = READ_ONCE(klp_target_wakes);
	int ret;

	atomic_inc(&klp_target_asleep);
	ret = wait_event_interruptible(klp_target_queue, READ_ONCE(klp_target_wakes) != before);
	atomic_dec(&klp_target_asleep);
	return ret;
}

static vm_fault_t klp_target_page(struct vm_fault *vmf)
{
	if (klp_target_sleep())
		return VM_FAULT_SIGBUS;
	vmf->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!vmf->page)
		return VM_FAULT_OOM;
	*(int *)page_address(vmf->page) = 42;
	return 0;
}

static const struct vm_operations_struct klp_target_vm_ops = { .fault = klp_target_page };

static int klp_target_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &klp_target_vm_ops;
	return 0;
}

static const struct file_operations klp_target_fops = { .owner = THIS_MODULE, .mmap = klp_target_mmap };

/* The functions that klp_target_caller can be told to call. */

static patchable int klp_target_callee(void)
{
	return klp_target_sleep() ?: 42;
}

static patchable int klp_target_dozing(void)
{
	return klp_target_doze() ?: 42;
}

static unsigned int depth = 60;
module_param(depth, uint, 0644);
MODULE_PARM_DESC(depth, "how many frames below its caller klp_target_deep sleeps");

static patchable int klp_target_down(unsigned int more)
{
	int ret = more ? klp_target_down(more - 1) : klp_target_sleep() ?: 42;

	OPTIMIZER_HIDE_VAR(ret); /* else it would be a loop */
	return ret;
}

/* Sleeps far below its caller. */
static patchable int klp_target_deep(void)
{
	return klp_target_down(READ_ONCE(depth));
}

/* Sleeps in a page fault that the kernel takes here: an exception boundary is on the stack. */
static patchable int klp_target_faulting(void)
{
	struct file *file = anon_inode_getfile("klp_target", &klp_target_fops, NULL, O_RDONLY);
	unsigned long at;
	int value, ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	at = vm_mmap(file, 0, PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0);
	fput(file);
	if (IS_ERR_VALUE(at))
		return (int)at;
	ret = get_user(value, (int __user *)at);
	vm_munmap(at, PAGE_SIZE);
	return ret ?: value;
}

/*
 * What patches replace: the caller of a function that sleeps. The call is far from the beginning: whether a task is in
 * here must not be asked with the size of the replacement.
 */
static patchable int klp_target_caller(int (*callee)(void))
{
	int got;

	asm volatile(".rept 64\n	nop\n	.endr");
	got = callee();

	return got < 0 ? got : got + 1000;
}

static int name_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", klp_target_name());
	return 0;
}

static int other_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", klp_target_other());
	return 0;
}

static int secret_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "instance %s, secret %d, twice %d\n", instance, klp_target_secret,
		   klp_target_twice(klp_target_secret));
	return 0;
}

static int secret_store(char *line)
{
	return kstrtoint(line, 0, &klp_target_secret);
}

/* Sleep below klp_target_caller, then tell what it returned and, still in the kernel, which klp_target_name ran. */
static __always_inline int sleep_in(struct seq_file *m, int (*callee)(void))
{
	int got = klp_target_caller(callee);

	if (got == -ERESTARTSYS) /* the system call is made anew */
		return got;
	seq_printf(m, "%d %s\n", got, klp_target_name());
	return 0;
}

static int sleep_show(struct seq_file *m, void *unused)
{
	return sleep_in(m, klp_target_callee);
}

static int fault_show(struct seq_file *m, void *unused)
{
	return sleep_in(m, klp_target_faulting);
}

static int doze_show(struct seq_file *m, void *unused)
{
	return sleep_in(m, klp_target_dozing);
}

static int deep_show(struct seq_file *m, void *unused)
{
	return sleep_in(m, klp_target_deep);
}

/* -- a kernel thread that naps below klp_target_caller: woken it leaves, and comes again after a write to "wake" -- */

static struct task_struct *napper;
static unsigned int naps;

static patchable int klp_target_nap(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
	if (!kthread_should_stop())
		schedule();
	__set_current_state(TASK_RUNNING);
	return 42;
}

static int napper_thread(void *unused)
{
	while (!kthread_should_stop()) {
		unsigned int before = READ_ONCE(klp_target_wakes);

		WRITE_ONCE(naps, naps + 1);
		klp_target_caller(klp_target_nap);
		/* here it can be switched */
		wait_event_idle(klp_target_queue, READ_ONCE(klp_target_wakes) != before || kthread_should_stop());
	}
	return 0;
}

/* 1 starts it, 0 stops it. */
static int napper_store(char *line)
{
	struct task_struct *task;

	if (napper)
		kthread_stop(napper);
	napper = NULL;
	if (*line != '1')
		return 0;
	naps = 0;
	task = kthread_run(napper_thread, NULL, "klp_napper");
	if (IS_ERR(task))
		return PTR_ERR(task);
	napper = task;
	return 0;
}

static int napper_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d %u\n", napper ? task_pid_nr(napper) : 0, READ_ONCE(naps));
	return 0;
}

static int asleep_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", atomic_read(&klp_target_asleep));
	return 0;
}

static int wake_store(char *line)
{
	WRITE_ONCE(klp_target_wakes, klp_target_wakes + 1);
	wake_up_all(&klp_target_queue);
	return 0;
}

static const struct harness_file files[] = {
	{ "name", name_show },
	{ "other", other_show },
	{ "secret", secret_show, secret_store },
	{ "sleep", sleep_show },
	{ "fault", fault_show },
	{ "doze", doze_show },
	{ "deep", deep_show },
	{ "napper", napper_show, napper_store },
	{ "asleep", asleep_show },
	{ "wake", NULL, wake_store },
	{ }
};

static int __init klp_target_init(void)
{
	return fail ? -EDOM : harness_files(files);
}

static void __exit klp_target_exit(void)
{
	harness_files_remove();
	if (napper)
		kthread_stop(napper);
}

module_init(klp_target_init);
module_exit(klp_target_exit);
MODULE_DESCRIPTION("a module to be patched");
MODULE_LICENSE("GPL");
