// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "perseus/format/certificate_text.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

constexpr std::string_view kFormat = "perseus-certificate/1";
constexpr std::int64_t kMaxFlow = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMaxId = static_cast<std::int64_t>(core::kMaxComputations) - 1;
/// Every computation has few successors (three at most today); the bound is for hostile files (assumed).
constexpr std::size_t kMaxEdges = 8 * core::kMaxComputations;

/// The exponent of an exact power of two that a double can hold with full precision.
core::Result<std::int32_t> read_unit(JsonReader& json) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const double unit, json.number());
  int exponent = 0;
  if (std::isnormal(unit) && std::frexp(unit, &exponent) == 0.5) return exponent - 1;
  return json.refuse(place,
                     fmt::format("unit_w is {}; it must be a power of two from 2^-1022 to 2^1023", unit));
}

core::Status read_computations(JsonReader& json, std::vector<std::int64_t>& out) {
  return json.array(core::kMaxComputations, [&](std::size_t) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t flow, json.integer(0, kMaxFlow));
    out.push_back(flow);
    return {};
  });
}

core::Result<ParsedCertificate::Edge> read_edge(JsonReader& json) {
  ParsedCertificate::Edge edge;
  const std::size_t place = json.mark();
  std::size_t count = 0;
  PERSEUS_RETURN_IF_ERROR(json.array(3, [&](std::size_t i) -> core::Status {
    count = i + 1;
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value,
                             i == 2 ? json.integer(1, kMaxFlow) : json.integer(0, kMaxId));
    if (i == 0) edge.from = static_cast<core::ComputationId>(value);
    if (i == 1) edge.to = static_cast<core::ComputationId>(value);
    if (i == 2) edge.flow = value;
    return {};
  }));
  if (count != 3)
    return json.refuse(place, fmt::format("an edge of {} numbers; it has 3: from, to, flow", count));
  return edge;
}

core::Status read_edges(JsonReader& json, std::vector<ParsedCertificate::Edge>& out) {
  return json.array(kMaxEdges, [&](std::size_t) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(const auto edge, read_edge(json));
    out.push_back(edge);
    return {};
  });
}

}  // namespace

core::Result<core::Seconds> read_plan_time(JsonReader& json) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
  const core::Seconds time(value + 0.0);
  if (time == core::Seconds(0) || (time >= core::kMinTime && time <= kMaxPlanTime)) return time;
  return json.refuse(place, fmt::format("a time of {} s; it must be 0, or {} to {} s", value,
                                        core::kMinTime.value(), kMaxPlanTime.value()));
}

core::Result<std::string> read_digest(JsonReader& json) {
  constexpr std::size_t kDigits = 64;
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(auto digest, json.string());
  if (digest.size() == kDigits && digest.find_first_not_of("0123456789abcdef") == std::string::npos)
    return digest;
  return json.refuse(place,
                     fmt::format("{} is no SHA-256 in 64 lower-case hexadecimal digits", quoted(digest)));
}

core::Status read_format(JsonReader& json, std::string_view wanted) {
  const std::size_t place = json.mark();
  PERSEUS_ASSIGN_OR_RETURN(const std::string format, json.string());
  if (format == wanted) return {};
  return json.refuse(place,
                     fmt::format("format is {}; this version reads {}", quoted(format), quoted(wanted)),
                     core::ErrorCode::kUnsupported);
}

void append_certificate(std::string& out, const ParsedCertificate& certificate) {
  out += R"({"unit_w":)";
  append_number(out, std::ldexp(1.0, certificate.unit_exponent));
  fmt::format_to(std::back_inserter(out), R"(,"value":{},"computations":[{}],"edges":[)", certificate.value,
                 fmt::join(certificate.computation, ","));
  for (std::size_t i = 0; i < certificate.edges.size(); ++i) {
    const auto& edge = certificate.edges[i];
    fmt::format_to(std::back_inserter(out), "{}[{},{},{}]", i == 0 ? "" : ",", edge.from, edge.to, edge.flow);
  }
  out += "]}";
}

core::Result<ParsedCertificate> read_certificate(JsonReader& json) {
  constexpr std::array<std::string_view, 4> kNames = {"unit_w", "value", "computations", "edges"};
  ParsedCertificate out;
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t i) -> core::Status {
    switch (i) {
      case 0: {
        PERSEUS_ASSIGN_OR_RETURN(out.unit_exponent, read_unit(json));
        return {};
      }
      case 1: {
        PERSEUS_ASSIGN_OR_RETURN(out.value, json.integer(0, kMaxFlow));
        return {};
      }
      case 2:
        return read_computations(json, out.computation);
      default:
        return read_edges(json, out.edges);
    }
  }));
  return out;
}

std::string write_certificate_json(const CertificateFile& file) {
  std::string out = R"({"format":)";
  append_json_string(out, kFormat);
  out += R"(,"schedule_sha256":)";
  append_json_string(out, file.schedule_sha256);
  out += R"(,"target_time_s":)";
  append_number(out, file.target_time.value());
  out += R"(,"certificate":)";
  append_certificate(out, file.certificate);
  out += "}\n";
  return out;
}

core::Result<CertificateFile> parse_certificate_json(std::string_view bytes, std::string source) {
  constexpr std::array<std::string_view, 4> kNames = {"format", "schedule_sha256", "target_time_s",
                                                      "certificate"};
  JsonReader json(bytes, std::move(source));
  PERSEUS_RETURN_IF_ERROR(json.check(kMaxPlanBytes, "certificate"));
  CertificateFile out;
  PERSEUS_RETURN_IF_ERROR(json.object(kNames, kNames.size(), [&](std::size_t i) -> core::Status {
    switch (i) {
      case 0:
        return read_format(json, kFormat);
      case 1: {
        PERSEUS_ASSIGN_OR_RETURN(out.schedule_sha256, read_digest(json));
        return {};
      }
      case 2: {
        PERSEUS_ASSIGN_OR_RETURN(out.target_time, read_plan_time(json));
        return {};
      }
      default: {
        PERSEUS_ASSIGN_OR_RETURN(out.certificate, read_certificate(json));
        return {};
      }
    }
  }));
  PERSEUS_RETURN_IF_ERROR(json.end());
  return out;
}

ParsedCertificate describe_certificate(const core::Problem& problem, const core::Certificate& certificate) {
  ParsedCertificate out{certificate.unit_exponent, certificate.value, certificate.computation, {}};
  for (const auto& [edge, flow] : certificate.edges) {
    const core::Edge& ends = problem.pipeline().edges()[edge];
    out.edges.push_back({ends.from, ends.to, flow});
  }
  return out;
}

core::Result<core::Certificate> bind_certificate(const core::Problem& problem,
                                                 const ParsedCertificate& certificate) {
  const core::Pipeline& pipeline = problem.pipeline();
  if (certificate.computation.size() != problem.size()) {
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("the certificate has flows of {} computations; the job has {}",
                                  certificate.computation.size(), problem.size()));
  }
  core::Certificate out{certificate.unit_exponent, certificate.value, certificate.computation, {}};
  for (const auto& edge : certificate.edges) {
    const core::ComputationId from = edge.from;
    const core::ComputationId to = edge.to;
    const auto refuse = [&](std::string_view what) {
      return core::fail(core::ErrorCode::kInvalidInput,
                        fmt::format("the certificate's edge from {} to {} {}", from, to, what));
    };
    if (from >= problem.size()) return refuse("does not exist in the job");
    const auto successors = pipeline.edges().subspan(pipeline.first_out(from),
                                                     pipeline.first_out(from + 1) - pipeline.first_out(from));
    const auto found = std::ranges::find(successors, to, &core::Edge::to);
    if (found == successors.end()) return refuse("does not exist in the job");
    const auto index = pipeline.first_out(from) + static_cast<core::EdgeId>(found - successors.begin());
    out.edges.push_back({index, edge.flow});
  }
  std::ranges::sort(out.edges, {}, &core::Certificate::EdgeFlow::edge);
  const auto twin = std::ranges::adjacent_find(out.edges, {}, &core::Certificate::EdgeFlow::edge);
  if (twin != out.edges.end()) {
    const core::Edge& ends = pipeline.edges()[twin->edge];
    return core::fail(core::ErrorCode::kInvalidInput,
                      fmt::format("the certificate's edge from {} to {} is there twice", ends.from, ends.to));
  }
  return out;
}

}  // namespace perseus::format
