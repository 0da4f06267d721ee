/* SPDX-License-Identifier: GPL-2.0-only */
/* What the livepatch modules share. */
#ifndef KLP_PATCH_H
#define KLP_PATCH_H

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "klp_pulse.h"

/* The end of every livepatch module: its insertion enables the klp_patch called `patch`. */
#define KLP_MODULE(what)				\
static int __init klp_module_init(void)			\
{							\
	int ret = klp_enable_patch(&patch);		\
							\
	if (ret)					\
		klp_pulse_stop();			\
	return ret;					\
}							\
static void __exit klp_module_exit(void)		\
{							\
	klp_pulse_stop();				\
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

#endif
