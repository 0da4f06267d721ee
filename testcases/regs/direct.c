// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS
/*
 * A direct call: a trampoline of our own in place of ftrace's entry, as BPF has them. It gets the callee's caller in
 * x9 and the way into the callee in x30, and has to keep x0 to x8.
 *
 * attach: a function of one argument; share: the same, with an ops_func, which tells the kernel that the trampoline
 * can live with a livepatch of that function, as BPF's do; detach; seen: "calls N argument X"; asked: what the
 * ops_func was asked since it was attached.
 *
 * direct_seen() may be traced: a trace then shows when the trampoline ran.
 */
#include <linux/ftrace.h>
#include "harness_test.h"

static struct ftrace_ops ops;
static u64 calls, argument;
static bool attached;
static char asked[64];

void direct_seen(u64 first);
extern void direct_trampoline(void);

/* The trampoline goes to wherever x30 says, so there is nothing to be changed when a livepatch comes or goes. */
static notrace int share(enum ftrace_ops_cmd cmd)
{
	switch (cmd) {
	case FTRACE_OPS_CMD_ENABLE_SHARE_IPMODIFY_SELF:
		strlcat(asked, " self", sizeof(asked));
		return 0;
	case FTRACE_OPS_CMD_ENABLE_SHARE_IPMODIFY_PEER:
		strlcat(asked, " peer", sizeof(asked));
		return 0;
	case FTRACE_OPS_CMD_DISABLE_SHARE_IPMODIFY_PEER:
		strlcat(asked, " alone", sizeof(asked));
		return 0;
	}
	return -EINVAL;
}

/* What the kernel calls: newer ones pass the call site as well. */
static notrace int __maybe_unused ops_func_of_site(struct ftrace_ops *which, unsigned long ip, enum ftrace_ops_cmd cmd)
{
	return share(cmd);
}

static notrace int __maybe_unused ops_func_of_ops(struct ftrace_ops *which, enum ftrace_ops_cmd cmd)
{
	return share(cmd);
}

#define OPS_FUNC                                                                                                       \
	__builtin_choose_expr(__builtin_types_compatible_p(ftrace_ops_func_t, typeof(&ops_func_of_site)),              \
			      ops_func_of_site, ops_func_of_ops)

__used noinline void direct_seen(u64 first)
{
	calls++;
	argument = first;
}

asm(
"	.pushsection	.text, \"ax\", @progbits\n"
"	.type		direct_trampoline, @function\n"
"	.globl		direct_trampoline\n"
"direct_trampoline:\n"
"	hint		34\n"				/* bti c */
"	stp		x29, x9, [sp, #-112]!\n"	/* a frame record for the callee's caller */
"	mov		x29, sp\n"
"	stp		x0, x1, [sp, #16]\n"
"	stp		x2, x3, [sp, #32]\n"
"	stp		x4, x5, [sp, #48]\n"
"	stp		x6, x7, [sp, #64]\n"
"	stp		x8, x30, [sp, #80]\n"
"	bl		direct_seen\n"
"	ldp		x0, x1, [sp, #16]\n"
"	ldp		x2, x3, [sp, #32]\n"
"	ldp		x4, x5, [sp, #48]\n"
"	ldp		x6, x7, [sp, #64]\n"
"	ldp		x8, x9, [sp, #80]\n"		/* x9: into the callee */
"	ldp		x29, x30, [sp], #112\n"		/* x30: the callee's caller */
"	ret		x9\n"
"	.size		direct_trampoline, . - direct_trampoline\n"
"	.popsection\n"
);

static notrace int attach(char *function, bool shared)
{
	int ret;

	if (attached)
		return -EBUSY;
	calls = argument = 0;
	asked[0] = '\0';
	ops = (struct ftrace_ops){ };	/* 6.12 leaves pointers to the freed filter in it */
	if (shared)
		ops.ops_func = OPS_FUNC;
	ret = ftrace_set_filter(&ops, function, strlen(function), 1);
	if (ret)
		return ret;
	ret = register_ftrace_direct(&ops, (unsigned long)direct_trampoline);
	if (ret)
		ftrace_free_filter(&ops);
	attached = !ret;
	return ret;
}

static notrace int store_attach(char *function)
{
	return attach(function, false);
}

static notrace int store_share(char *function)
{
	return attach(function, true);
}

static notrace int store_detach(char *unused)
{
	if (!attached)
		return -ENOENT;
	attached = false;
	return unregister_ftrace_direct(&ops, (unsigned long)direct_trampoline, true);
}

static notrace int show_seen(struct seq_file *m, void *unused)
{
	seq_printf(m, "calls %llu argument %llx\n", calls, argument);
	return 0;
}

static notrace int show_asked(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", strim(asked));
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "attach", .store = store_attach },
	{ .name = "share", .store = store_share },
	{ .name = "asked", .show = show_asked },
	{ .name = "detach", .store = store_detach },
	{ .name = "seen", .show = show_seen },
	{ }
};

static int __init direct_start(void)
{
	return harness_files(files);
}

static void __exit direct_stop(void)
{
	harness_files_remove();
	store_detach(NULL);
}

module_init(direct_start);
module_exit(direct_stop);
MODULE_DESCRIPTION("a direct call with a trampoline of its own");
MODULE_LICENSE("GPL");
