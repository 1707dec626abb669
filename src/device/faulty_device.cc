// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/faulty_device.h"

#include <algorithm>

#include "base/assert.h"
#include "device/inner_request.h"

namespace stablefs {
namespace {

bool can_strike(FaultKind kind, const DeviceRequest& request) {
  const bool transfers = request.op == DeviceOp::read || request.op == DeviceOp::write;
  switch (kind) {
    case FaultKind::fail:
    case FaultKind::fail_after:
    case FaultKind::delay:
      return true;
    case FaultKind::short_transfer:
      return transfers && request.length_blocks > 0;
    case FaultKind::corrupt_read:
      return request.op == DeviceOp::read && request.length_blocks > 0;
    case FaultKind::misdirect_write:
      return request.op == DeviceOp::write;
    case FaultKind::lose_write:
      return request.op != DeviceOp::read && request.op != DeviceOp::flush;
    case FaultKind::lie_flush:
      return request.op == DeviceOp::flush;
  }
  return false;
}

bool matches(const FaultRule& rule, const DeviceRequest& request) {
  if (!can_strike(rule.kind, request)) return false;
  if (rule.op && *rule.op != request.op) return false;
  if (request.length_blocks < rule.blocks_min) return false;
  if (!rule.range) return true;
  return request.op != DeviceOp::flush && request.lba < rule.range->end() &&
         rule.range->start < request.lba + request.length_blocks;
}

Error error_of(const DeviceRequest& request) {
  switch (request.op) {
    case DeviceOp::read:
      return Error(ErrorCode::device_read, "injected");
    case DeviceOp::write:
    case DeviceOp::write_zeroes:
      return Error(ErrorCode::device_write, "injected");
    case DeviceOp::flush:
      return Error(ErrorCode::device_flush, "injected");
    case DeviceOp::discard:
      return Error(ErrorCode::device_discard, "injected");
  }
  return ErrorCode::device_read;
}

void flip_one_bit(std::span<const iovec> memory, uint64_t length_bytes, uint64_t random) {
  const uint64_t bit = random % (length_bytes * 8);
  std::byte byte;
  copy_from_memory(memory, bit / 8, {&byte, 1});
  byte ^= std::byte{1} << (bit % 8);
  copy_to_memory(memory, bit / 8, {&byte, 1});
}

}  // namespace

FaultyDevice::FaultyDevice(BlockDevice& inner, FaultPlan plan) : inner_(inner), prng_(0) {
  set_plan(std::move(plan));
}

FaultyDevice::~FaultyDevice() {
  MutexLock lock(mutex_);
  FS_ASSERT(held_.empty());
}

void FaultyDevice::set_plan(FaultPlan plan) {
  MutexLock lock(mutex_);
  prng_ = Prng(plan.seed);
  rules_.clear();
  for (const FaultRule& rule : plan.rules) rules_.push_back({rule});
}

std::optional<FaultyDevice::Fault> FaultyDevice::choose(const DeviceRequest& request) {
  for (RuleState& state : rules_) {
    if (!matches(state.rule, request)) continue;
    ++state.matched;
    if (state.matched < state.rule.first || state.struck >= state.rule.times) continue;
    if (!prng_.chance(std::max<uint64_t>(state.rule.one_in, 1))) continue;
    ++state.struck;
    ++faults_;
    return Fault{state.rule.kind, state.rule.parameter, prng_.next()};
  }
  return std::nullopt;
}

// The held requests whose time has come; all of them when nothing else could ever release them.
std::vector<DeviceRequest*> FaultyDevice::take_due() {
  std::vector<DeviceRequest*> due;
  std::deque<Held> later;
  for (const Held& held : held_) {
    if (in_flight_ == 0 || held.release_at <= requests_) {
      due.push_back(held.request);
    } else {
      later.push_back(held);
    }
  }
  held_.swap(later);
  in_flight_ += due.size();
  return due;
}

void FaultyDevice::submit(DeviceRequest& request) {
  if (Status valid = validate(request); !valid.ok()) {
    finish(request, std::move(valid), 0);
    return;
  }
  count(request);
  std::optional<Fault> fault;
  bool held = false;
  std::vector<DeviceRequest*> due;
  {
    MutexLock lock(mutex_);
    ++requests_;
    fault = choose(request);
    held = fault && fault->kind == FaultKind::delay;
    if (held) {
      held_.push_back({&request, requests_ + fault->parameter});
    } else {
      ++in_flight_;
    }
    due = take_due();
  }
  if (!held) carry_out(request, fault);
  for (DeviceRequest* delayed : due) carry_out(*delayed, std::nullopt);
}

void FaultyDevice::carry_out(DeviceRequest& request, std::optional<Fault> fault) {
  if (fault && fault->kind == FaultKind::fail) {
    completed(request, error_of(request), 0);
  } else if (fault &&
             (fault->kind == FaultKind::lose_write || fault->kind == FaultKind::lie_flush)) {
    completed(request, {}, request.length_blocks);
  } else {
    forward(request, fault);
  }
}

void FaultyDevice::forward(DeviceRequest& request, std::optional<Fault> fault) {
  uint64_t length_blocks = request.length_blocks;
  if (fault && fault->kind == FaultKind::short_transfer)
    length_blocks = fault->random % length_blocks;
  auto inner = InnerRequest::first_blocks_of(request, length_blocks);
  if (fault && fault->kind == FaultKind::misdirect_write) {
    const uint64_t addresses = block_count() - request.length_blocks + 1;
    inner->request.lba = Lba(fault->random % addresses);
  }
  InnerRequest::submit(
      std::move(inner), inner_, [this, &request, fault](Status status, uint64_t done) {
        if (status.ok() && fault && fault->kind == FaultKind::corrupt_read) {
          flip_one_bit(request.memory, request.length_blocks * kBlockSize, fault->random);
        }
        if (status.ok() && fault && fault->kind == FaultKind::fail_after) {
          completed(request, error_of(request), 0);
          return;
        }
        completed(request, std::move(status), done);
      });
}

void FaultyDevice::completed(DeviceRequest& request, Status status, uint64_t blocks_done) {
  std::vector<DeviceRequest*> due;
  {
    MutexLock lock(mutex_);
    --in_flight_;
    due = take_due();
  }
  for (DeviceRequest* delayed : due) carry_out(*delayed, std::nullopt);
  finish(request, std::move(status), blocks_done);
}

void FaultyDevice::abort() {
  std::deque<Held> held;
  {
    MutexLock lock(mutex_);
    held.swap(held_);
  }
  inner_.abort();
  for (const Held& entry : held) finish(*entry.request, ErrorCode::device_aborted, 0);
}

}  // namespace stablefs
