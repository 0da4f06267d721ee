// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stack traces that the handlers of probes take.
 *
 * attach: "KIND FUNCTION", with KIND entry (an fprobe with an entry handler), fprobe (an entry and an exit handler) or
 * kretprobe (a return handler); detach; stacks: what the last call's handlers saw, a line "entry" or "return" and then
 * a line for each frame, innermost first. names: the symbols at the addresses written to it.
 */
#ifdef CONFIG_FPROBE
#include <linux/fprobe.h>
#endif
#include <linux/kprobes.h>
#include <linux/stacktrace.h>
#include "harness_test.h"

#define DEPTH 48
#define ADDRESSES 64

struct trace {
	unsigned long frames[DEPTH];
	unsigned int found;
};

static struct trace at_entry, at_return;
static char function[64];
static bool has_kretprobe;

static notrace noinline void take(struct trace *trace)
{
	trace->found = stack_trace_save(trace->frames, DEPTH, 0);
}

static notrace int returned(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	take(&at_return);
	return 0;
}

static struct kretprobe kretprobe;

#ifdef CONFIG_FPROBE
static bool has_fprobe;

static notrace int entered(struct fprobe *probe, unsigned long ip, unsigned long caller, struct ftrace_regs *fregs,
			   void *data)
{
	take(&at_entry);
	return 0;
}

static notrace void left(struct fprobe *probe, unsigned long ip, unsigned long caller, struct ftrace_regs *fregs,
			 void *data)
{
	take(&at_return);
}

static struct fprobe fprobe;

static notrace int attach_fprobe(bool with_exit)
{
	const char *names[] = { function };
	int ret;

	fprobe = (struct fprobe){ .entry_handler = entered, .exit_handler = with_exit ? left : NULL };
	ret = register_fprobe_syms(&fprobe, names, 1);
	has_fprobe = !ret;
	return ret;
}

static notrace int detach_fprobe(void)
{
	if (!has_fprobe)
		return -ENOENT;
	has_fprobe = false;
	return unregister_fprobe(&fprobe);
}
#else
static notrace int attach_fprobe(bool with_exit)
{
	return -EOPNOTSUPP;
}

static notrace int detach_fprobe(void)
{
	return -ENOENT;
}
#endif

static notrace int attach_kretprobe(void)
{
	int ret;

	kretprobe = (struct kretprobe){ .kp.symbol_name = function, .handler = returned };
	ret = register_kretprobe(&kretprobe);
	has_kretprobe = !ret;
	return ret;
}

static notrace int store_detach(char *unused)
{
	if (!has_kretprobe)
		return detach_fprobe();
	has_kretprobe = false;
	unregister_kretprobe(&kretprobe);
	return 0;
}

static notrace int store_attach(char *line)
{
	char kind[16];

	if (sscanf(line, "%15s %63s", kind, function) != 2)
		return -EINVAL;
	at_entry.found = at_return.found = 0;
	return strcmp(kind, "kretprobe") ? attach_fprobe(!strcmp(kind, "fprobe")) : attach_kretprobe();
}

static notrace void show_trace(struct seq_file *m, const char *what, const struct trace *trace)
{
	unsigned int i;

	if (trace->found)
		seq_printf(m, "%s\n", what);
	for (i = 0; i < trace->found; i++)
		seq_printf(m, "%pS\n", (void *)trace->frames[i]);
}

static notrace int show_stacks(struct seq_file *m, void *unused)
{
	show_trace(m, "entry", &at_entry);
	show_trace(m, "return", &at_return);
	return 0;
}

static unsigned long addresses[ADDRESSES];
static unsigned int asked;

static notrace int store_names(char *line)
{
	char *word;

	for (asked = 0; asked < ADDRESSES && (word = strsep(&line, " ")); asked++)
		if (kstrtoul(word, 16, &addresses[asked]))
			return -EINVAL;
	return 0;
}

static notrace int show_names(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < asked; i++)
		seq_printf(m, "%pS\n", (void *)addresses[i]);
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "attach", .store = store_attach },
	{ .name = "detach", .store = store_detach },
	{ .name = "stacks", .show = show_stacks },
	{ .name = "names", .show = show_names, .store = store_names },
	{ }
};

static int __init probed_start(void)
{
	return harness_files(files);
}

static void __exit probed_stop(void)
{
	harness_files_remove();
	store_detach(NULL);
}

module_init(probed_start);
module_exit(probed_stop);
MODULE_DESCRIPTION("stack traces taken by the handlers of probes");
MODULE_LICENSE("GPL");
