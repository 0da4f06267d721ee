/* SPDX-License-Identifier: GPL-2.0-only */
/* How a livepatch is enabled, for kernels 4.20 to 7.3: up to 5.0 it is registered first, and nothing is replaced. */
#ifndef HARNESS_LIVEPATCH_H
#define HARNESS_LIVEPATCH_H

#include <linux/livepatch.h>
#include <linux/version.h>

#include "harness_test.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 1, 0)

#define harness_enable_patch(patch) klp_enable_patch(patch)

static notrace int __maybe_unused harness_set_replace(struct klp_patch *patch, bool replace)
{
	patch->replace = replace;
	return 0;
}

static notrace void __maybe_unused harness_forget_patch(struct klp_patch *patch)
{
}

#else

static notrace int __maybe_unused harness_enable_patch(struct klp_patch *patch)
{
	int ret = klp_register_patch(patch);

	if (ret)
		return ret;
	ret = klp_enable_patch(patch);
	if (ret)
		WARN_ON(klp_unregister_patch(patch));
	return ret;
}

static notrace int __maybe_unused harness_set_replace(struct klp_patch *patch, bool replace)
{
	return replace ? harness_lacks("atomic replace of livepatches") : 0;
}

/* At the end of a module whose patch was enabled; it is disabled by then. */
static notrace void __maybe_unused harness_forget_patch(struct klp_patch *patch)
{
	WARN_ON(klp_unregister_patch(patch));
}

#endif

#endif
