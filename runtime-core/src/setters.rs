//! Options are made by their defaults and a method for each that differs, so that new ones break no program.

/// Declares a struct of options: what a field's documentation says holds for the method of its name, which
/// sets it.
macro_rules! options {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$about_field:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        pub struct $name { $(pub(crate) $field: $type),* }

        impl $name {
            $(
                $(#[$about_field])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}
