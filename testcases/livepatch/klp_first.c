// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* Of the three livepatches of klp_target_name the one that replaces klp_target_other too. */
#define KLP_OTHER_TOO
#include "klp_name.h"
MODULE_LICENSE("GPL");
