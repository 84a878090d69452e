#ifndef DIFFUSION_EXAMPLES_POINTS_HPP
#define DIFFUSION_EXAMPLES_POINTS_HPP

#include <support/canvas.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

#include <string>
#include <utility>
#include <vector>

namespace examples {

/// Points of the plane, (point, coordinate).
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

/// The points as dots in the square [-limit, limit]^2, without axes.
inline Panel panel_of(const Points& points, const std::string& title, double limit) {
  Panel panel;
  panel.title = title;
  panel.x = {.label = "", .low = -limit, .high = limit};
  panel.y = {.label = "", .low = -limit, .high = limit};
  panel.same_scale = true;
  panel.show_axes = false;
  std::vector<Point> dots;
  for (Eigen::Index i = 0; i < points.dimension(0); ++i)
    dots.push_back({points(i, 0), points(i, 1)});
  panel.add_dots("", std::move(dots), Color{31, 88, 158, 0.5}, 1.2);
  return panel;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_POINTS_HPP
