/* SPDX-License-Identifier: GPL-2.0-only */
/* What test modules with an ftrace_ops share, for kernels 4.20 to 7.3. */
#ifndef HARNESS_OPS_H
#define HARNESS_OPS_H

#include <linux/ftrace.h>
#include <linux/version.h>

#include "harness_test.h"

/* HARNESS_REDIRECT_IF(name, condition, goal): a callback `name` that has the call go to `goal`, another instruction
 * pointer, where `condition` holds; its ops needs HARNESS_REDIRECT_FLAGS. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define HARNESS_REDIRECT_IF(name, condition, goal)                                                                     \
	static notrace void name(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,                    \
				 struct pt_regs *regs)                                                                 \
	{                                                                                                              \
		if (condition)                                                                                         \
			instruction_pointer_set(regs, (unsigned long)(goal));                                          \
	}
#define HARNESS_REDIRECT_FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_RECURSION_SAFE)
#elif defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)
#define HARNESS_REDIRECT_IF(name, condition, goal)                                                                     \
	static notrace void name(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,                    \
				 struct ftrace_regs *fregs)                                                            \
	{                                                                                                              \
		if (condition)                                                                                         \
			ftrace_regs_set_instruction_pointer(fregs, (unsigned long)(goal));                             \
	}
#define HARNESS_REDIRECT_FLAGS FTRACE_OPS_FL_IPMODIFY
#else
#define HARNESS_REDIRECT_IF(name, condition, goal)                                                                     \
	static notrace void name(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,                    \
				 struct ftrace_regs *fregs)                                                            \
	{                                                                                                              \
		if (condition)                                                                                         \
			instruction_pointer_set(ftrace_get_regs(fregs), (unsigned long)(goal));                        \
	}
#define HARNESS_REDIRECT_FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY)
#endif

/* The same, for each call. */
#define HARNESS_REDIRECT(name, goal) HARNESS_REDIRECT_IF(name, true, goal)

/* Drop the filter of an ops, by a function that not all kernels export; nothing where it is not found. */
static notrace void __maybe_unused harness_free_filter(struct ftrace_ops *ops)
{
	static void (*free_filter)(struct ftrace_ops *ops);

	if (!free_filter)
		free_filter = (void *)harness_lookup("ftrace_free_filter");
	if (free_filter)
		free_filter(ops);
}

#endif
