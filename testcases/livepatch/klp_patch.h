/* SPDX-License-Identifier: GPL-2.0-only */
/* What the livepatch modules share. */
#ifndef KLP_PATCH_H
#define KLP_PATCH_H

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/workqueue.h>

#include "harness_livepatch.h"
#include "harness_test.h"

/* The end of every livepatch module: its insertion enables the klp_patch called `patch`. */
#define KLP_MODULE(what)				\
static int __init klp_module_init(void)			\
{							\
	return harness_enable_patch(&patch);		\
}							\
static void __exit klp_module_exit(void)		\
{							\
	harness_forget_patch(&patch);			\
}							\
module_init(klp_module_init);				\
module_exit(klp_module_exit);				\
KLP_MODULE_INFO(what)

#define KLP_MODULE_INFO(what)				\
MODULE_DESCRIPTION(what);				\
MODULE_INFO(livepatch, "Y")

/*
 * A symbol of another object ("vmlinux" or a module) that is not exported, or not there yet. `harness build` turns
 * references to it into livepatch relocations (harness/build/klp_relocations.py), which the kernel resolves when
 * the object is there. Declare the C name KLP_SYMBOL(object, symbol) too; it is weak for modpost's sake only.
 */
#define KLP_SYMBOL(object, symbol) klp_sym__##object##__##symbol
#define KLP_UNRESOLVED(object, symbol) asm(".weak klp_sym__" #object "__" #symbol)

/*
 * The parameter "hurry" of every livepatch module: a write to it has the livepatch core make its next try to switch
 * all tasks now. It makes one a second, and the first one mostly fails, for the other CPU is idle, so running; tests
 * that are about something else would spend their time waiting for the second one.
 */
static int klp_hurry(const char *unused, const struct kernel_param *param)
{
	struct delayed_work *next_try = (void *)harness_lookup("klp_transition_work");

	if (!next_try)
		return -ENOENT;
	flush_delayed_work(next_try);
	return 0;
}

static const struct kernel_param_ops klp_hurry_ops = { .set = klp_hurry };
module_param_cb(hurry, &klp_hurry_ops, NULL, 0200);
MODULE_PARM_DESC(hurry, "make the livepatch core try now to switch all tasks");

#endif
