// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/constants_page.h"

#include <fmt/format.h>

#include <iterator>

#include "perseus/model/gpu_physics.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/model/kernels.h"
#include "perseus/model/transformer_zoo.h"

namespace perseus::model {
namespace {

void add_transformers(std::string& page) {
  page +=
      "## Models\n\n"
      "| model | layers | hidden | heads | KV heads | MLP | gated MLP | vocabulary | sequence | weights | "
      "source |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const TransformerModel& m : transformers()) {
    fmt::format_to(std::back_inserter(page),
                   "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {:.1f}e9 | {} |\n", m.name, m.layers,
                   m.hidden, m.heads, m.kv_heads, m.ffn, m.gated ? "yes" : "no", m.vocabulary, m.sequence,
                   parameters(m) / 1e9, m.source);
  }
  page +=
      "\nWeights count embedding and head apart, though GPT-3 and BLOOM share them; biases and norms are "
      "left out.\n\n";
}

void add_gpu(std::string& page, const GpuModel& gpu) {
  fmt::format_to(std::back_inserter(page),
                 "### `{}`: {}\n\n| constant | value | unit | source |\n|---|---|---|---|\n", gpu.name,
                 gpu.title);
  for (const GpuField& field : gpu_fields()) {
    const Figure& figure = gpu.*field.member;
    fmt::format_to(std::back_inserter(page), "| {} | {:.6g} | {} | {} |\n", field.name, figure.value,
                   figure.unit, figure.source);
  }
  page += '\n';
}

void add_assumptions(std::string& page) {
  page +=
      "## Constants of the work and the physics\n\n| constant | value | unit | source |\n|---|---|---|---|\n";
  for (const auto list : {work_assumptions(), physics_assumptions()}) {
    for (const Assumption& a : list) {
      fmt::format_to(std::back_inserter(page), "| {} | {} | {} | {} |\n", a.name, a.figure.value,
                     a.figure.unit, a.figure.source);
    }
  }
}

}  // namespace

std::string constants_page() {
  std::string page =
      "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
      "# Constants of the analytic model\n\n"
      "Generated from `perseus/model` by `model_constants_doc`; a test compares the two. What is not sourced "
      "says\n"
      "\"assumed\" or \"derived\" with the derivation; `model.md` has the formulae.\n\n";
  add_transformers(page);
  page += "## GPUs\n\n";
  for (const GpuModel& gpu : gpus()) add_gpu(page, gpu);
  add_assumptions(page);
  return page;
}

}  // namespace perseus::model
