// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/frontier_file.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "perseus/format/byte_codec.h"
#include "perseus/format/profile_csv.h"
#include "perseus/format/schedule_csv.h"
#include "perseus/format/sha256.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;
using core::FrontierData;

constexpr std::string_view kMagic = "PERSEUSF";
constexpr std::size_t kDigestCharacters = 64;  // the digest is stored as bytes, sha256.h speaks hexadecimal
constexpr std::size_t kDigestBytes = kDigestCharacters / 2;
constexpr unsigned kBitsPerByte = 8;

/// The difference of two values modulo 2^64: exact again after unwrapped_sum, whatever the values.
std::int64_t wrapped_difference(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
std::int64_t wrapped_sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

core::Result<std::string> digest_of(std::string_view bytes) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string hex, sha256_hex(bytes));
  std::string digest;
  for (std::size_t i = 0; i < kDigestCharacters; i += 2) {
    digest += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return digest;
}

void write_job(ByteWriter& out, const core::Problem& problem, const std::string& fit) {
  const core::ProblemInputs& inputs = problem.inputs();
  out.text(fit);
  out.text(problem.pipeline().schedule().name);
  out.text(write_schedule_csv(problem.pipeline().schedule()));
  out.text(write_profile_csv(inputs.profile));
  out.whole(inputs.parallel.tensor);
  out.whole(inputs.parallel.data);
  out.whole(inputs.blocking_power.size());
  for (const core::Watts p : inputs.blocking_power) out.real(p.value());
  out.real(inputs.p2p_lag.value());
  out.whole(inputs.edge_lag.size());
  for (const auto& [ranks, lag] : inputs.edge_lag) {
    out.whole(ranks.first);
    out.whole(ranks.second);
    out.real(lag.value());
  }
}

std::uint32_t read_u32(ByteReader& in) {
  const std::uint64_t value = in.whole();
  return value <= std::numeric_limits<std::uint32_t>::max() ? static_cast<std::uint32_t>(value) : 0;
}

core::Result<core::Problem> read_job(ByteReader& in, const std::string& source) {
  const std::string name(in.text());
  PERSEUS_ASSIGN_OR_RETURN(auto schedule, parse_schedule_csv(in.text(), source + " (its schedule)"));
  schedule.schedule.name = name;
  PERSEUS_ASSIGN_OR_RETURN(auto profile, parse_profile_csv(in.text(), source + " (its profile)"));

  core::ProblemInputs inputs;
  inputs.profile = std::move(profile.profile);
  inputs.parallel.tensor = read_u32(in);
  inputs.parallel.data = read_u32(in);
  const std::uint64_t ranks = in.count();
  for (std::uint64_t r = 0; r < ranks; ++r) inputs.blocking_power.emplace_back(in.real());
  inputs.p2p_lag = core::Seconds(in.real());
  const std::uint64_t pairs = in.count();
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::uint32_t from = read_u32(in);
    const std::uint32_t to = read_u32(in);
    inputs.edge_lag[{from, to}] = core::Seconds(in.real());
  }
  PERSEUS_ASSIGN_OR_RETURN(auto pipeline, core::Pipeline::build(std::move(schedule.schedule)));
  return core::Problem::build(std::move(pipeline), std::move(inputs));
}

void write_values(ByteWriter& out, const std::vector<std::int64_t>& values,
                  const std::vector<std::int64_t>& before) {
  out.whole(values.size());
  const bool same_size = values.size() == before.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    out.difference(wrapped_difference(values[i], same_size ? before[i] : 0));
  }
}

std::vector<std::int64_t> read_values(ByteReader& in, const std::vector<std::int64_t>& before) {
  std::vector<std::int64_t> values(in.count());
  const bool same_size = values.size() == before.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = wrapped_sum(in.difference(), same_size ? before[i] : 0);
  }
  return values;
}

void write_bits(ByteWriter& out, const std::vector<bool>& bits) {
  out.whole(bits.size());
  for (std::size_t i = 0; i < bits.size(); i += kBitsPerByte) {
    unsigned packed = 0;
    for (unsigned k = 0; k < kBitsPerByte && i + k < bits.size(); ++k) packed |= (bits[i + k] ? 1U : 0U) << k;
    out.byte(static_cast<std::uint8_t>(packed));
  }
}

std::vector<bool> read_bits(ByteReader& in) {
  const std::uint64_t size = in.whole();
  const std::string_view packed = in.raw(size / kBitsPerByte + (size % kBitsPerByte == 0 ? 0 : 1));
  if (!in.ok()) return {};
  std::vector<bool> bits(size);
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned byte = static_cast<std::uint8_t>(packed[i / kBitsPerByte]);
    bits[i] = ((byte >> (i % kBitsPerByte)) & 1U) != 0;
  }
  return bits;
}

void write_data(ByteWriter& out, const FrontierData& data) {
  out.difference(data.time_exponent);
  out.difference(data.power_exponent);
  out.byte(data.to_t_max ? 1 : 0);
  out.difference(data.t_star);
  out.difference(data.t_max);
  out.whole(data.corners.size());
  FrontierData::Corner last;
  for (const FrontierData::Corner& corner : data.corners) {
    out.difference(wrapped_difference(corner.time, last.time));
    out.difference(wrapped_difference(corner.slope, last.slope));
    last = corner;
  }
  out.whole(data.checkpoints.size());
  const FrontierData::Checkpoint none;
  const FrontierData::Checkpoint* before = &none;
  for (const FrontierData::Checkpoint& checkpoint : data.checkpoints) {
    write_values(out, checkpoint.node_time, before->node_time);
    write_values(out, checkpoint.arc_flow, before->arc_flow);
    write_bits(out, checkpoint.sink_side);
    before = &checkpoint;
  }
}

FrontierData read_data(ByteReader& in) {
  FrontierData data;
  data.time_exponent = static_cast<std::int32_t>(in.difference());
  data.power_exponent = static_cast<std::int32_t>(in.difference());
  data.to_t_max = in.byte() != 0;
  data.t_star = in.difference();
  data.t_max = in.difference();
  const std::uint64_t corners = in.count();
  FrontierData::Corner last;
  for (std::uint64_t i = 0; i < corners; ++i) {
    last.time = wrapped_sum(last.time, in.difference());
    last.slope = wrapped_sum(last.slope, in.difference());
    data.corners.push_back(last);
  }
  const std::uint64_t checkpoints = in.count();
  const FrontierData::Checkpoint none;
  for (std::uint64_t i = 0; i < checkpoints && in.ok(); ++i) {
    const FrontierData::Checkpoint& before = data.checkpoints.empty() ? none : data.checkpoints.back();
    FrontierData::Checkpoint checkpoint;
    checkpoint.node_time = read_values(in, before.node_time);
    checkpoint.arc_flow = read_values(in, before.arc_flow);
    checkpoint.sink_side = read_bits(in);
    data.checkpoints.push_back(std::move(checkpoint));
  }
  return data;
}

/// What is left between version and digest, once both have been found right.
core::Result<std::string_view> open_envelope(std::string_view bytes, const std::string& source) {
  const core::Origin origin{source};
  if (!bytes.starts_with(kMagic)) {
    return fail(ErrorCode::kInvalidInput, "is not a frontier file of `perseus frontier --out`", origin);
  }
  if (bytes.size() > kMaxFrontierBytes) {
    return fail(ErrorCode::kLimit,
                fmt::format("has {} bytes; the limit is {}", bytes.size(), kMaxFrontierBytes), origin);
  }
  if (bytes.size() < kMagic.size() + sizeof(std::uint32_t) + kDigestBytes) {
    return fail(ErrorCode::kInvalidInput, "is cut off", origin);
  }
  ByteReader head(bytes.substr(kMagic.size()));
  if (const std::uint32_t version = head.fixed32(); version != kFrontierVersion) {
    return fail(ErrorCode::kInvalidInput,
                fmt::format("has version {} of the frontier file; this build reads version {}", version,
                            kFrontierVersion),
                origin);
  }
  const std::string_view signed_part = bytes.substr(0, bytes.size() - kDigestBytes);
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, digest_of(signed_part));
  if (bytes.substr(signed_part.size()) != digest) {
    return fail(ErrorCode::kInvalidInput, "does not fit its checksum: it is cut off or damaged", origin);
  }
  return signed_part.substr(kMagic.size() + sizeof(std::uint32_t));
}

}  // namespace

core::Result<std::string> write_frontier_file(const core::Problem& problem, const core::FrontierData& data,
                                              const std::string& fit) {
  ByteWriter out;
  out.raw(kMagic);
  out.fixed32(kFrontierVersion);
  write_job(out, problem, fit);
  write_data(out, data);
  PERSEUS_ASSIGN_OR_RETURN(const std::string digest, digest_of(out.bytes()));
  out.raw(digest);
  if (out.bytes().size() > kMaxFrontierBytes) {
    return fail(ErrorCode::kLimit, fmt::format("the frontier file would have {} bytes; the limit is {}",
                                               out.bytes().size(), kMaxFrontierBytes));
  }
  return out.take();
}

core::Result<StoredFrontier> parse_frontier_file(std::string_view bytes, const std::string& source) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string_view body, open_envelope(bytes, source));
  ByteReader in(body);
  std::string fit(in.text());
  PERSEUS_ASSIGN_OR_RETURN(auto problem, read_job(in, source));
  core::FrontierData data = read_data(in);
  if (!in.ok() || !in.at_end()) {
    return fail(ErrorCode::kInvalidInput, "its parts do not add up to its size", {source});
  }
  return StoredFrontier{std::move(problem), std::move(data), std::move(fit)};
}

}  // namespace perseus::format
