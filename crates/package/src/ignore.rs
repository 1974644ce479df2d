//! `.mseignore`: what of `mse_src` stays at home. The syntax is gitignore's.
