// SPDX-License-Identifier: GPL-2.0-or-later
// Precompiled: see src/base/precompiled/common.h.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/precompiled/common.h"
