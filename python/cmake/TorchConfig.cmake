# LibTorch of an unpacked wheel, WEFT_TORCH_FOLDER, for linking alone: its own configuration asks for a CUDA toolkit.
add_library(torch INTERFACE)
target_include_directories(torch SYSTEM INTERFACE ${WEFT_TORCH_FOLDER}/include ${WEFT_TORCH_FOLDER}/include/torch/csrc/api/include)
target_link_libraries(torch INTERFACE ${WEFT_TORCH_FOLDER}/lib/libtorch.so ${WEFT_TORCH_FOLDER}/lib/libtorch_cpu.so ${WEFT_TORCH_FOLDER}/lib/libc10.so)
# What they need of others is there when they are loaded.
target_link_options(torch INTERFACE -Wl,--allow-shlib-undefined)
set(TORCH_LIBRARIES torch)
set(Torch_FOUND TRUE)
