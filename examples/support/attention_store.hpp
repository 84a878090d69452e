#ifndef DIFFUSION_EXAMPLES_ATTENTION_STORE_HPP
#define DIFFUSION_EXAMPLES_ATTENTION_STORE_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <nn/unet2d.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace examples {

/// Keeps the attention probabilities of one run of a network, and puts them in place of those of
/// another run of as many pictures (Hertz et al. 2022, arXiv 2208.01626): what was where in the
/// first picture is then where in the second. The network's classes are added to the time, so it
/// attends to nothing but itself: these are its self-attention maps, not a text's.
///
/// A map belongs to a stage of the plan and a branch of guidance, which the Query tells. The
/// network must outlive the store; one run at a time.
class AttentionStore {
 public:
  explicit AttentionStore(nn::Unet2d<float>& network) : network_(network) {
    network_.set_attention_hook([this](const nn::AttentionPlace& place, std::span<float> values) {
      if (now_ != nullptr) visit(place, values);
    });
  }
  ~AttentionStore() { network_.set_attention_hook({}); }
  AttentionStore(const AttentionStore&) = delete;
  AttentionStore& operator=(const AttentionStore&) = delete;

  /// From now on the maps of the stages below `stages` are kept.
  void record(int stages) { set(true, stages); }
  /// From now on the kept maps are put in place in the stages below `stages`.
  void inject(int stages) { set(false, stages); }

  /// The network as guidance asks it.
  auto network() {
    return [this, labels = std::vector<int>()](
               const nn::Unet2d<float>::Batch& x, const diffusion::Query& query,
               const diffusion::Conditions<int>& classes, nn::Unet2d<float>::Batch& out) mutable {
      labels.clear();
      for (std::size_t i = 0; i < classes.size(); ++i) labels.push_back(classes[i]);
      enter(query, labels.size());
      network_(x, query.t, labels, out);
      now_ = nullptr;
    };
  }

 private:
  static constexpr int most_maps = 64;  // heads of all layers
  using Maps = std::vector<std::vector<float>>;

  void set(bool records, int stages) {
    records_ = records;
    stages_ = stages;
    if (records) kept_.clear();
  }

  /// Each map has a place of its own from here on: the threads of a call write side by side.
  void enter(const diffusion::Query& query, std::size_t samples) {
    if (query.stage >= stages_) return;
    Maps& maps = kept_[{query.stage, query.branch}];
    if (records_) maps.resize(samples * most_maps);
    if (maps.size() != samples * most_maps)
      throw std::runtime_error("attention is put into a run that differs from the recorded one");
    now_ = &maps;
  }

  void visit(const nn::AttentionPlace& place, std::span<float> values) {
    if (place.first_query != 0 || place.queries != place.pixels)
      throw std::runtime_error("attention is kept for pictures that are shown at once");
    const auto number = static_cast<std::size_t>(place.layer * 8 + place.head);
    std::vector<float>& map = now_->at(static_cast<std::size_t>(place.sample) * most_maps + number);
    if (records_)
      map.assign(values.begin(), values.end());
    else
      std::copy(map.begin(), map.end(), values.begin());
  }

  nn::Unet2d<float>& network_;
  std::map<std::pair<int, int>, Maps> kept_;
  Maps* now_ = nullptr;
  bool records_ = true;
  int stages_ = 0;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_ATTENTION_STORE_HPP
