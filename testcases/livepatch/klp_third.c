// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* One of three livepatches of klp_target_name. */
#include "klp_name.h"
MODULE_LICENSE("GPL");
