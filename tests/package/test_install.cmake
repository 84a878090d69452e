# `cmake --install` puts down these files, and none of them knows where it was put.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

run(${CMAKE_COMMAND} --install ${BUILD} --config Debug --prefix ${here})

file(GLOB_RECURSE wanted RELATIVE ${SOURCE} ${SOURCE}/include/diffusion/*.hpp)
list(APPEND wanted
  share/cmake/diffusion/diffusionConfig.cmake
  share/cmake/diffusion/diffusionConfigVersion.cmake
  share/cmake/diffusion/diffusionTargets.cmake
  share/doc/diffusion/CHANGELOG.md
  share/doc/diffusion/LICENSE
  share/doc/diffusion/README.md
  share/pkgconfig/diffusion.pc)
list(SORT wanted)
file(GLOB_RECURSE installed RELATIVE ${here} ${here}/*)
list(SORT installed)
expect_equal("installed files" "${installed}" "${wanted}")

foreach(name IN LISTS installed)
  file(READ ${here}/${name} content)
  foreach(folder ${here} ${SOURCE} ${BUILD})
    string(FIND "${content}" "${folder}/" place)
    if(NOT place EQUAL -1)
      message(FATAL_ERROR "${name} names a folder of the machine that made it: ${folder}")
    endif()
  endforeach()
endforeach()

# The tests that use the installed files find them elsewhere.
file(REMOVE_RECURSE ${PREFIX})
file(RENAME ${here} ${PREFIX})
