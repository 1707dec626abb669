// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/verifying_device.h"

#include <fmt/format.h>

#include <optional>

#include "base/prng.h"
#include "device/inner_request.h"

namespace stablefs {
namespace {

uint32_t checksum(std::span<const iovec> memory) {
  uint32_t crc = 0;
  for (const iovec& part : memory) {
    crc = crc32c(crc, {static_cast<const std::byte*>(part.iov_base), part.iov_len});
  }
  return crc;
}

std::string describe(const DeviceRequest& request, const char* when) {
  return fmt::format("write of {} blocks at block {}, found {}", request.length_blocks,
                     request.lba.value, when);
}

std::optional<Error> check_tuples(const DeviceRequest& request, const char* when) {
  Lba lba = request.lba;
  auto tuples = request.tuples;
  for (const iovec& part : request.memory) {
    const uint64_t blocks = part.iov_len / kBlockSize;
    const uint64_t count = blocks * tuples_per_block(request.interval);
    const auto mismatch =
        verify_tuples({static_cast<const std::byte*>(part.iov_base), part.iov_len}, lba,
                      request.interval, tuples.first(count));
    if (mismatch) {
      const size_t index = mismatch->offset_bytes / static_cast<uint32_t>(request.interval);
      return Error(ErrorCode::device_protection,
                   fmt::format("{}: {} of block {} (application tag {:#06x}), {:#x} expected, "
                               "{:#x} computed",
                               describe(request, when), to_string(mismatch->kind),
                               mismatch->lba.value, static_cast<uint16_t>(tuples[index].app_tag),
                               mismatch->found, mismatch->expected));
    }
    lba = lba + blocks;
    tuples = tuples.subspan(count);
  }
  return std::nullopt;
}

std::optional<Error> check(const DeviceRequest& request, uint32_t sum_at_submit, const char* when) {
  if (!request.tuples.empty()) return check_tuples(request, when);
  if (checksum(request.memory) == sum_at_submit) return std::nullopt;
  return Error(ErrorCode::device_protection, describe(request, when));
}

}  // namespace

VerifyingDevice::VerifyingDevice(BlockDevice& inner, VerifyingOptions options)
    : inner_(inner), options_(std::move(options)) {}

// Scattered, so that a workload with a period cannot slip between the samples.
bool VerifyingDevice::is_sampled() {
  if (options_.sample_one_in <= 1) return options_.sample_one_in == 1;
  return Prng(writes_seen_++).chance(options_.sample_one_in);
}

Error VerifyingDevice::report(Error error) {
  ++verifying_counters_.mismatches;
  return error;
}

void VerifyingDevice::submit(DeviceRequest& request) {
  if (request.op != DeviceOp::write || !is_sampled()) {
    inner_.submit(request);
    return;
  }
  if (Status valid = validate(request); !valid.ok()) {
    finish(request, std::move(valid), 0);
    return;
  }
  submit_checked(request);
}

void VerifyingDevice::submit_checked(DeviceRequest& request) {
  ++verifying_counters_.checked;
  const uint32_t sum_at_submit = request.tuples.empty() ? checksum(request.memory) : 0;
  if (options_.before_dma) options_.before_dma(request);
  if (auto error = check(request, sum_at_submit, "when the transfer began")) {
    finish(request, report(std::move(*error)), 0);
    return;
  }
  auto inner = InnerRequest::first_blocks_of(request, request.length_blocks);
  InnerRequest::submit(
      std::move(inner), inner_, [this, &request, sum_at_submit](Status status, uint64_t done) {
        if (auto error = check(request, sum_at_submit, "when the transfer had completed")) {
          finish(request, report(std::move(*error)), 0);
          return;
        }
        finish(request, std::move(status), done);
      });
}

}  // namespace stablefs
