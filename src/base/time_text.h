// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "base/clock.h"

namespace stablefs {

// To the second, in UTC, as RFC 3339 has it: "2026-01-31T12:00:00Z". Empty when out of range.
std::string time_text(Timestamp time);

}  // namespace stablefs
